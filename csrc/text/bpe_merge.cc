#include "text/bpe_merge.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "base/error.h"
#include "text/utf8.h"

namespace tinyzh {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFF;

// A node of the linked list of what the text is cut into.  A merge lengthens its left node and
// empties its right one, so a node's number never passes from one start to another.
struct Node {
  uint32_t start;
  uint32_t length;  // 0: swallowed by the node before it
  uint32_t previous;
  uint32_t next;
  int32_t id = PieceIndex::kAbsent;
};

// A pair of neighbours that makes a piece.  It is out of date as soon as either of the two has
// changed; since a change can only lengthen the pair that starts at `left`, or empty `left`, comparing
// lengths tells.
struct Candidate {
  float score;
  uint32_t left;
  uint32_t length;
  int32_t id;
};

struct WorseFirst {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.score < b.score || (a.score == b.score && a.left > b.left);
  }
};

std::vector<Node> cut_into_characters(std::string_view text) {
  std::vector<Node> nodes;
  nodes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = std::max<size_t>(utf8_length(text.substr(at)), 1);
    const auto number = static_cast<uint32_t>(nodes.size());
    nodes.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(length),
                     number == 0 ? kNone : number - 1, number + 1});
    at += length;
  }
  if (!nodes.empty()) nodes.back().next = kNone;
  return nodes;
}

}  // namespace

Segmentation bpe_merge(std::string_view text, const PieceIndex& index, std::span<const float> scores) {
  constexpr size_t kLimit = std::numeric_limits<int32_t>::max();
  if (text.size() > kLimit)
    fail(Code::invalid_argument, "the text is ", text.size(), " bytes long, the limit is ", kLimit,
         ": encode it in parts");

  Segmentation result;
  std::vector<Node> nodes = cut_into_characters(text);
  const auto pair_at = [&](uint32_t left) -> Candidate {
    const uint32_t length = nodes[left].length + nodes[nodes[left].next].length;
    const int32_t id = index.find(text.substr(nodes[left].start, length));
    ++result.lookups;
    return {id == PieceIndex::kAbsent ? 0.0f : scores[static_cast<size_t>(id)], left, length, id};
  };

  std::vector<Candidate> first;
  for (uint32_t left = 0; left + 1 < nodes.size(); ++left) {
    const Candidate pair = pair_at(left);
    if (pair.id != PieceIndex::kAbsent) first.push_back(pair);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, WorseFirst> heap(WorseFirst{}, std::move(first));

  const auto offer = [&](uint32_t left) {
    if (left == kNone || nodes[left].next == kNone) return;
    const Candidate pair = pair_at(left);
    if (pair.id != PieceIndex::kAbsent) heap.push(pair);
  };
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Node& left = nodes[best.left];
    if (left.length == 0 || left.next == kNone) continue;
    Node& right = nodes[left.next];
    if (left.length + right.length != best.length) continue;

    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (left.next != kNone) nodes[left.next].previous = best.left;
    offer(left.previous);
    offer(best.left);
  }

  for (uint32_t i = nodes.empty() ? kNone : 0; i != kNone; i = nodes[i].next) {
    const std::string_view piece = text.substr(nodes[i].start, nodes[i].length);
    int32_t id = nodes[i].id;
    if (id == PieceIndex::kAbsent) {
      id = index.find(piece);
      ++result.lookups;
    }
    result.pieces.push_back({piece, id});
  }
  return result;
}

}  // namespace tinyzh
