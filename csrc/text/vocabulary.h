// id -> bytes: what each token adds to the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tinyzh {

enum class PieceKind : uint8_t { normal, byte, control, unknown };

struct Piece {
  std::string bytes;  // "▁" is already a space; a byte token is its one byte; a control token is empty
  PieceKind kind = PieceKind::normal;
};

class Vocabulary {
 public:
  static constexpr int32_t kUnknown = 0, kBos = 1, kEos = 2;

  Vocabulary() = default;
  explicit Vocabulary(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}
  int32_t size() const { return static_cast<int32_t>(pieces_.size()); }
  const Piece& operator[](int32_t id) const { return pieces_[static_cast<size_t>(id)]; }

 private:
  std::vector<Piece> pieces_;
};

}  // namespace tinyzh
