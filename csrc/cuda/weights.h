// Weights on the device, in the layouts that the kernels read.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "model/weights.h"

namespace tinyzh::cuda {

// Memory of the device with what is in these.
AlignedBuffer<std::byte> uploaded(const Queue& queue, std::span<const std::byte> first, std::span<const std::byte> second = {});
template <class T>
AlignedBuffer<std::byte> uploaded(const Queue& queue, std::span<const T> values) {
  return uploaded(queue, std::as_bytes(values));
}

// Rows that follow one another, as fp32 or of 16 bits.  Throws Error(Code::checkpoint) when a number is beyond the type:
// `name` says whose.
AlignedBuffer<std::byte> uploaded_rows(const Queue& queue, const Matrix& matrix, Precision precision, const std::string& name);

// One matrix or up to three, side by side, that are multiplied by the same activations in one launch.
class Product {
 public:
  struct Factor {
    const Matrix* matrix;
    std::string name;
  };
  enum class Side { one_after_the_other, alternating };  // alternating: panels of gate and up, for matmul_gated

  Product() = default;
  // Copies the matrices to the device.  Throws Error(Code::checkpoint) as above.
  Product(const Queue& queue, Precision precision, const std::vector<Factor>& factors, Side side = Side::one_after_the_other);

  explicit operator bool() const { return places_.count > 0; }
  // out[i] (batch, rows of matrix i).
  void put(Stream stream, const std::array<float*, kMostMatrices>& out, const Activations& in, unsigned batch) const;
  void put_gated(Stream stream, const Activations& out, const Activations& in, unsigned batch) const;

 private:
  void upload_f32(const Queue& queue, const std::vector<Factor>& factors);
  void upload_q8(const Queue& queue, const std::vector<Factor>& factors);
  void upload_q4(const Queue& queue, const std::vector<Factor>& factors);
  void upload_half(const Queue& queue, const std::vector<Factor>& factors, Side side);
  template <class T>
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data()); }

  Precision precision_ = Precision::float32;
  Places places_ = {};
  AlignedBuffer<std::byte> bytes_;
  // Of int8: the parts, and what they point to.
  AlignedBuffer<std::byte> parts_;
  unsigned part_count_ = 0;
  std::vector<AlignedBuffer<std::byte>> kept_;
};

}  // namespace tinyzh::cuda
