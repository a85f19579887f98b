#include "cuda/inputs.h"

#include <algorithm>

#include "cuda/allocators.h"

namespace tinyzh::cuda {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

Inputs::Inputs(size_t rows, size_t blocks)
    : layout_([rows, blocks] {
        const size_t list = aligned(rows * sizeof(int32_t)), tables = aligned(rows * sizeof(void*));
        return Layout{list, 2 * list, 3 * list, 4 * list, 4 * list + tables, 4 * list + tables + rows * blocks * sizeof(void*)};
      }()),
      memory_(layout_.all, device_memory(), Fill::nothing),
      bytes_(const_cast<std::byte*>(memory_.data())) {}

Rows Inputs::rows(size_t count) const {
  return {at<int32_t>(0), at<int32_t>(layout_.positions), at<std::byte* const*>(layout_.tables), static_cast<unsigned>(count)};
}

Sheet::Sheet(const Inputs& inputs)
    : layout_(inputs.layout_), there_(inputs.bytes_), bytes_(layout_.all, pinned_memory(), Fill::nothing) {
  const auto list = [&](size_t offset) { return reinterpret_cast<int32_t*>(bytes_.data() + offset); };
  tokens_ = list(0);
  positions_ = list(layout_.positions);
  sampled_rows_ = list(layout_.sampled);
  draws_ = list(layout_.draws);
  tables_ = reinterpret_cast<std::byte***>(bytes_.data() + layout_.tables);
  blocks_ = reinterpret_cast<std::byte**>(bytes_.data() + layout_.blocks);
}

void Sheet::write(std::span<const Row> rows) { write_rows(rows, false); }

void Sheet::write_filled(std::span<const Row> rows, size_t count, std::byte* idle) {
  write_rows(rows, true);
  if (count == rows.size()) return;
  const size_t table = blocks_used_;
  blocks_[blocks_used_++] = idle;
  for (size_t b = rows.size(); b < count; ++b) {
    tokens_[b] = positions_[b] = 0;
    tables_[b] = reinterpret_cast<std::byte**>(there_ + layout_.blocks) + table;
    sample(b, -1, false);
  }
}

void Sheet::write_rows(std::span<const Row> rows, bool all_sampled) {
  blocks_used_ = sampled_ = 0;
  draws_some_ = false;
  wanted_.clear();
  size_t table = 0;  // where that of the row before begins
  for (size_t b = 0; b < rows.size(); ++b) {
    const Row& row = rows[b];
    tokens_[b] = row.token;
    positions_[b] = row.position;
    if (b == 0 || rows[b - 1].blocks != row.blocks) {  // rows of one sequence are neighbours, and share its table
      int32_t last = row.position;
      for (size_t next = b + 1; next < rows.size() && rows[next].blocks == row.blocks; ++next)
        last = std::max(last, rows[next].position);
      table = blocks_used_;
      const size_t needed = static_cast<size_t>(last) / kBlockPositions + 1;
      std::copy_n(row.blocks, needed, blocks_ + blocks_used_);
      blocks_used_ += needed;
    }
    tables_[b] = reinterpret_cast<std::byte**>(there_ + layout_.blocks) + table;
    if (all_sampled || row.wants_logits || row.draws_to >= 0) sample(b, row.draws_to, row.wants_logits);
  }
}

void Sheet::sample(size_t row, int32_t draws_to, bool wanted) {
  if (wanted) wanted_.push_back(sampled_);
  draws_some_ |= draws_to >= 0;
  sampled_rows_[sampled_] = static_cast<int32_t>(row);
  draws_[sampled_++] = draws_to;
}

void Sheet::send(const Queue& queue) const {
  queue.send(there_, bytes_.data(), layout_.blocks + blocks_used_ * sizeof(std::byte*));
}

}  // namespace tinyzh::cuda
