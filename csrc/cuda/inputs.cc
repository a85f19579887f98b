#include "cuda/inputs.h"

#include <algorithm>

#include "cuda/allocators.h"

namespace tinyzh::cuda {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

Inputs::Inputs(size_t rows, size_t blocks)
    : positions_at_(aligned(rows * sizeof(int32_t))),
      sampled_at_(2 * positions_at_),
      tables_at_(3 * positions_at_),
      blocks_at_(tables_at_ + aligned(rows * sizeof(void*))),
      size_(blocks_at_ + rows * blocks * sizeof(void*)),
      memory_(size_, device_memory(), Fill::nothing),
      bytes_(const_cast<std::byte*>(memory_.data())) {}

Rows Inputs::rows(size_t count) const {
  return {at<int32_t>(0), at<int32_t>(positions_at_), at<std::byte* const*>(tables_at_), static_cast<unsigned>(count)};
}

Inputs::Sheet::Sheet(const Inputs& inputs) : inputs_(inputs), bytes_(inputs.size_, pinned_memory(), Fill::nothing) {}

void Inputs::Sheet::write(std::span<const Row> rows, size_t count, std::byte* idle) {
  const auto array = [&]<class T>(size_t offset, T*) { return reinterpret_cast<T*>(bytes_.data() + offset); };
  auto* const tokens = array(0, static_cast<int32_t*>(nullptr));
  auto* const positions = array(inputs_.positions_at_, static_cast<int32_t*>(nullptr));
  auto* const sampled = array(inputs_.sampled_at_, static_cast<int32_t*>(nullptr));
  auto* const tables = array(inputs_.tables_at_, static_cast<std::byte***>(nullptr));
  auto* const blocks = array(inputs_.blocks_at_, static_cast<std::byte**>(nullptr));
  std::byte** const there = inputs_.at<std::byte*>(inputs_.blocks_at_);
  size_t filled = 0, table = 0;  // blocks so far; where the table of the row before begins
  sampled_ = 0;
  for (size_t b = 0; b < rows.size(); ++b) {
    const Row& row = rows[b];
    tokens[b] = row.token;
    positions[b] = row.position;
    if (row.wants_logits) sampled[sampled_++] = static_cast<int32_t>(b);
    if (b == 0 || rows[b - 1].blocks != row.blocks) {  // rows of one sequence are neighbours, and share its table
      int32_t last = row.position;
      for (size_t next = b + 1; next < rows.size() && rows[next].blocks == row.blocks; ++next)
        last = std::max(last, rows[next].position);
      table = filled;
      const size_t needed = static_cast<size_t>(last) / kBlockPositions + 1;
      std::copy_n(row.blocks, needed, blocks + filled);
      filled += needed;
    }
    tables[b] = there + table;
  }
  for (size_t b = rows.size(); b < count; ++b) {
    tokens[b] = positions[b] = 0;
    tables[b] = there + filled;
  }
  if (count > rows.size()) blocks[filled++] = idle;
  used_ = inputs_.blocks_at_ + filled * sizeof(std::byte*);
}

void Inputs::Sheet::send(const Queue& queue) const { queue.send(inputs_.bytes_, bytes_.data(), used_); }

}  // namespace tinyzh::cuda
