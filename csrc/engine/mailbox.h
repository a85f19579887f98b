// Where requests leave word that there is something new, for a reader of many of them: putting a word in never
// waits for the reader, and never fails.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace tinyzh {

class Mailbox {
 public:
  void put(uint64_t key) noexcept {
    {
      const std::scoped_lock lock(mutex_);
      if (closed_) return;
      try {
        keys_.push_back(key);
      } catch (const std::bad_alloc&) {
        missed_ = true;
      }
    }
    changed_.notify_one();
  }
  // As if a key had not found memory.
  void miss() noexcept {
    const std::scoped_lock lock(mutex_);
    missed_ = !closed_;
  }
  struct Word {
    std::vector<uint64_t> keys;  // each once
    bool missed = false;         // there was no memory for a key: whoever has one may have news
  };
  // All since the last call; waits up to `seconds` for the first.  Empty at once when closed.
  Word take(double seconds) noexcept {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, duration(seconds), [this] { return closed_ || some(); });
    Word word;
    word.keys.swap(keys_);
    std::swap(word.missed, missed_);
    lock.unlock();
    std::sort(word.keys.begin(), word.keys.end());
    word.keys.erase(std::unique(word.keys.begin(), word.keys.end()), word.keys.end());
    return word;
  }
  // Waits up to `seconds` for there to be a key; false: there is none.
  bool wait(double seconds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, duration(seconds), [this] { return closed_ || some(); }) && some();
  }
  void close() {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
      keys_.clear();
      missed_ = false;
    }
    changed_.notify_all();
  }

 private:
  bool some() const { return missed_ || !keys_.empty(); }
  static std::chrono::duration<double> duration(double seconds) {
    return std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e6));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint64_t> keys_;
  bool missed_ = false, closed_ = false;
};

}  // namespace tinyzh
