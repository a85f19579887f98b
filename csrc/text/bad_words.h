// Words that must never appear in the output, however the vocabulary cuts them into tokens: a token is
// banned as soon as it would complete one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocabulary.h"

namespace tinyzh {

class BadWords {
 public:
  BadWords(std::vector<std::string> words, const Vocabulary& vocabulary)
      : words_(std::move(words)), vocabulary_(vocabulary) {
    for (const std::string& word : words_) longest_ = std::max(longest_, word.size());
    if (words_.empty()) return;
    for (int32_t id = 0; id < vocabulary_.size(); ++id)
      for (const std::string& word : words_)
        if (vocabulary_[id].bytes.find(word) != std::string::npos) {
          always_.push_back(id);
          break;
        }
  }

  // What has been generated grows by one token.
  void push(int32_t token) {
    if (words_.empty()) return;
    tail_ += vocabulary_[token].bytes;
    if (tail_.size() >= longest_) tail_.erase(0, tail_.size() - (longest_ - 1));
  }

  // Appends the tokens that must not come next.
  void append_banned(std::vector<int32_t>& banned) const {
    banned.insert(banned.end(), always_.begin(), always_.end());
    for (const std::string& word : words_)
      for (size_t n = std::min(word.size() - 1, tail_.size()); n > 0; --n) {
        if (std::string_view(tail_).substr(tail_.size() - n) != std::string_view(word).substr(0, n)) continue;
        const std::string_view rest = std::string_view(word).substr(n);
        for (int32_t id = 0; id < vocabulary_.size(); ++id)
          if (std::string_view(vocabulary_[id].bytes).substr(0, rest.size()) == rest) banned.push_back(id);
      }
  }

 private:
  std::vector<std::string> words_;  // none empty
  const Vocabulary& vocabulary_;
  std::vector<int32_t> always_;  // tokens that hold a whole word
  std::string tail_;             // the last longest_ - 1 bytes of the output
  size_t longest_ = 0;
};

}  // namespace tinyzh
