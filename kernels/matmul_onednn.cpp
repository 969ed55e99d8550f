// SPDX-License-Identifier: Apache-2.0
#include <dnnl.h>

#include <algorithm>

#include "kernels/matmul_cpu.h"
#include "kernels/onednn_thread.h"

namespace lockstep::onednn {
namespace {

void sgemm(const MatmulBlock& block) {
  const dnnl_status_t status =
      dnnl_sgemm(block.transpose_a ? 'T' : 'N', block.transpose_b ? 'T' : 'N', block.m, block.n, block.k, 1.0f, block.a,
                 block.ld_a, block.b, block.ld_b, block.accumulate ? 1.0f : 0.0f, block.out, block.ld_out);
  check(status == dnnl_success, ErrorCode::internal, [&] {
    return str("dnnl_sgemm of ", block.m, " x ", block.n, " x ", block.k, " returned status ", int(status));
  });
}

// The library's kernels for middling shapes read an operand in place. Where that walks down its columns and rows start
// a multiple of 2 KiB apart, all of a column falls into the same few cache sets, and the product runs at half to two
// thirds of its speed (measured on Zen 3: 512 x 512 x 128 with a transposed left side 62 GFLOP/s, with padded rows 86).
// A copy with padded rows costs less. The rules look at shapes alone, so that every rank takes the same path.
constexpr int64_t kAliasing = 512, kPadding = 16, kStripColumns = 512;
constexpr int64_t kLeastInner = 16, kLeastRows = 64, kLeastColumns = 64, kLibraryPacks = 1024;

enum class Padding { none, left, right };

Padding padding_for(const MatmulBlock& block) {
  const bool library_packs = block.m >= kLibraryPacks && block.n >= kLibraryPacks;
  if (block.transpose_a && block.ld_a % kAliasing == 0 && block.k >= kLeastInner && block.n >= kLeastColumns &&
      !library_packs)
    return Padding::left;
  if (!block.transpose_a && !block.transpose_b && block.ld_b % kAliasing == 0 && block.m >= kLeastRows &&
      block.m <= block.ld_b)
    return Padding::right;
  return Padding::none;
}

int64_t padded_elements(int64_t rows, int64_t columns) { return rows * (columns + kPadding); }

void copy_padded(float* to, const float* from, int64_t rows, int64_t columns, int64_t ld_from) {
  for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * ld_from, columns, to + r * (columns + kPadding));
}

// Copies op(a), which is read down the columns of a, in strips that stay in cache.
void pad_left(const MatmulBlock& block, float* copy) {
  for (int64_t begin = 0; begin < block.m; begin += kStripColumns) {
    MatmulBlock strip = block;
    strip.m = std::min(kStripColumns, block.m - begin);
    copy_padded(copy, block.a + begin, block.k, strip.m, block.ld_a);
    strip.a = copy;
    strip.ld_a = strip.m + kPadding;
    strip.out += begin * block.ld_out;
    sgemm(strip);
  }
}

void pad_right(const MatmulBlock& block, float* copy) {
  copy_padded(copy, block.b, block.k, block.n, block.ld_b);
  MatmulBlock with_copy = block;
  with_copy.b = copy;
  with_copy.ld_b = block.n + kPadding;
  sgemm(with_copy);
}

}  // namespace

int64_t matmul_block_scratch(const MatmulBlock& block) {
  switch (padding_for(block)) {
    case Padding::left:
      return padded_elements(block.k, std::min(kStripColumns, block.m)) * int64_t(sizeof(float));
    case Padding::right:
      return padded_elements(block.k, block.n) * int64_t(sizeof(float));
    case Padding::none:
      return 0;
  }
  return 0;
}

void matmul_block(const MatmulBlock& block, std::byte* scratch) {
  const OneThread one_thread;
  switch (padding_for(block)) {
    case Padding::left:
      return pad_left(block, reinterpret_cast<float*>(scratch));
    case Padding::right:
      return pad_right(block, reinterpret_cast<float*>(scratch));
    case Padding::none:
      return sgemm(block);
  }
}

void plain_call(const MatmulBlock& block) {
  const OneThread one_thread;
  sgemm(block);
}

std::string_view matmul_library() {
  static const std::string name =
      str("oneDNN ", dnnl_version()->major, ".", dnnl_version()->minor, ".", dnnl_version()->patch);
  return name;
}

namespace {

std::string name_of(dnnl_cpu_isa_t isa) {
  switch (int(isa)) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    default:
      return str("isa", int(isa));
  }
}

}  // namespace

// The instructions are those in use, which the environment can restrict (DNNL_MAX_CPU_ISA). Hints choose shorter
// vectors, and a mode of floating-point math other than strict lets convolutions use narrower numbers.
std::string matmul_numerics() {
  const dnnl_version_t& version = *dnnl_version();
  dnnl_fpmath_mode_t math = dnnl_fpmath_mode_strict;
  dnnl_get_default_fpmath_mode(&math);
  std::string text = str("oneDNN-", version.major, ".", version.minor, ".", version.patch, "-",
                         std::string_view(version.hash).substr(0, 8), "-", name_of(dnnl_get_effective_cpu_isa()));
  if (const int hints = int(dnnl_get_cpu_isa_hints()); hints != 0) text += str(",hints:", hints);
  if (math != dnnl_fpmath_mode_strict) text += str(",fpmath:", int(math));
  return text;
}

}  // namespace lockstep::onednn
