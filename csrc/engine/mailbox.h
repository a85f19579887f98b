// Where requests leave word that there is something new, for a reader of many of them: putting a word in never
// waits for the reader.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace tinyzh {

class Mailbox {
 public:
  void put(uint64_t key) {
    {
      const std::scoped_lock lock(mutex_);
      if (closed_) return;
      keys_.push_back(key);
    }
    changed_.notify_one();
  }
  // All keys since the last call, each once; waits up to `seconds` for the first.  Empty at once when closed.
  std::vector<uint64_t> take(double seconds) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, duration(seconds), [this] { return closed_ || !keys_.empty(); });
    std::vector<uint64_t> keys;
    keys.swap(keys_);
    lock.unlock();
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  }
  // Waits up to `seconds` for there to be a key; false: there is none.
  bool wait(double seconds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, duration(seconds), [this] { return closed_ || !keys_.empty(); }) && !keys_.empty();
  }
  void close() {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
      keys_.clear();
    }
    changed_.notify_all();
  }

 private:
  static std::chrono::duration<double> duration(double seconds) {
    return std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e6));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint64_t> keys_;
  bool closed_ = false;
};

}  // namespace tinyzh
