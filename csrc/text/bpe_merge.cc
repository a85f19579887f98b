#include "text/bpe_merge.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <unordered_map>

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
  bool whole;  // a symbol: it never merges
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

std::vector<Node> cut(std::string_view text, const SymbolSet* symbols) {
  std::vector<Node> nodes;
  nodes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const size_t symbol = symbols ? symbols->longest_match(rest) : 0;
    const size_t length = symbol ? symbol : std::max<size_t>(utf8_length(rest), 1);
    const auto number = static_cast<uint32_t>(nodes.size());
    nodes.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(length),
                     number == 0 ? kNone : number - 1, number + 1, symbol != 0});
    at += length;
  }
  if (!nodes.empty()) nodes.back().next = kNone;
  return nodes;
}

// The pieces that are not to be used, and where each was put together: at the same byte wherever it stands
// in a text, since what lies outside of a piece has no part in the merges inside.
class Unused {
 public:
  Unused(std::span<const int32_t> ids) : ids_(ids) {}

  void saw_pair(int32_t id, uint32_t left_length) {
    if (contains(id)) left_lengths_[id] = left_length;
  }

  bool contains(int32_t id) const { return std::ranges::binary_search(ids_, id); }

  // 0: it was not put together, it is a character.
  uint32_t left_length(int32_t id) const {
    const auto found = left_lengths_.find(id);
    return found == left_lengths_.end() ? 0 : found->second;
  }

 private:
  std::span<const int32_t> ids_;
  std::unordered_map<int32_t, uint32_t> left_lengths_;
};

}  // namespace

Segmentation bpe_merge(std::string_view text, const BpeRules& rules) {
  constexpr size_t kLimit = std::numeric_limits<int32_t>::max();
  if (text.size() > kLimit)
    fail(Code::invalid_argument, "the text is ", text.size(), " bytes long, the limit is ", kLimit,
         ": encode it in parts");

  Segmentation result;
  const auto find = [&](std::string_view piece) {
    ++result.lookups;
    return rules.index.find(piece);
  };
  std::vector<Node> nodes = cut(text, rules.symbols);
  Unused unused(rules.unused);
  const auto pair_at = [&](uint32_t left) -> Candidate {
    const Node& a = nodes[left];
    const Node& b = nodes[a.next];
    const uint32_t length = a.length + b.length;
    const int32_t id = a.whole || b.whole ? PieceIndex::kAbsent : find(text.substr(a.start, length));
    if (id == PieceIndex::kAbsent) return {0.0f, left, length, id};
    unused.saw_pair(id, a.length);
    return {rules.scores[static_cast<size_t>(id)], left, length, id};
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

  std::vector<TextPiece> apart;  // what is still to be written, the next at the end
  for (uint32_t i = nodes.empty() ? kNone : 0; i != kNone; i = nodes[i].next) {
    const std::string_view merged = text.substr(nodes[i].start, nodes[i].length);
    apart.push_back({merged, nodes[i].id == PieceIndex::kAbsent ? find(merged) : nodes[i].id});
    while (!apart.empty()) {
      const TextPiece piece = apart.back();
      apart.pop_back();
      if (!unused.contains(piece.id)) {
        result.pieces.push_back(piece);
        continue;
      }
      const uint32_t left = unused.left_length(piece.id);
      if (left == 0) {
        result.pieces.push_back({piece.text, PieceIndex::kAbsent});
        continue;
      }
      for (const std::string_view half : {piece.text.substr(left), piece.text.substr(0, left)})
        apart.push_back({half, find(half)});
    }
  }
  return result;
}

}  // namespace tinyzh
