// Numbers in bfloat16: the upper halves of floats, widened when read and rounded when written.
#pragma once
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include <vector>

#include "lanes.h"

namespace lanes {

struct Bfloat16 {
  uint16_t bits;
};

typedef uint16_t Halves __attribute__((vector_size(2 * W)));
typedef uint32_t Words __attribute__((vector_size(4 * W)));

inline F widened(Halves halves) { return (F)(__builtin_convertvector(halves, Words) << 16); }

// To the nearest, ties to even; NaN stays NaN.
inline Halves narrowed(F x) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
  const Words bits = (Words)x;
  const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const I is_number = x == x;
  return __builtin_convertvector((is_number ? rounded : Words{} + 0x7fc00000u) >> 16, Halves);
#endif
}

inline F load(const Bfloat16* from, int64_t count = W, float rest = 0) {
  Halves halves{};
  if (count == W) {
    std::memcpy(&halves, from, sizeof halves);
    return widened(halves);
  }
  F lanes = all(rest);
  for (int64_t i = 0; i < count; ++i) halves[i] = from[i].bits;
  const F some = widened(halves);
  for (int64_t i = 0; i < count; ++i) lanes[i] = some[i];
  return lanes;
}

inline void store(Bfloat16* to, F lanes, int64_t count = W) {
  const Halves halves = narrowed(lanes);
  if (count == W)
    std::memcpy(to, &halves, sizeof halves);
  else
    for (int64_t i = 0; i < count; ++i) to[i].bits = halves[i];
}

// The numbers of a row as floats: where they lie, or copied into `memory`.
inline float* as_floats(float* row, int64_t, std::vector<float>&) { return row; }
inline float* as_floats(Bfloat16* row, int64_t V, std::vector<float>& memory) {
  memory.resize(V);
  over(V, [&](int64_t i, int64_t count) { store(&memory[i], load(row + i, count), count); });
  return memory.data();
}

// Two numbers that follow one another along a sum, the first in the lower half.
struct Pair {
  uint32_t bits;
};

#if defined(__AVX512BF16__)
constexpr bool MULTIPLIES_PAIRS = true;  // at twice the rate of floats
#else
constexpr bool MULTIPLIES_PAIRS = false;
#endif

inline Words vector_at(const Pair* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

inline Words spread(Pair pair) { return Words{} + pair.bits; }

inline F plus_product(F sum, Words factor, Words row) {
#if defined(__AVX512BF16__)
  return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)factor, (__m512bh)row);
#else
  const F high = (F)(factor & 0xffff0000u) * (F)(row & 0xffff0000u);
  return sum + ((F)(factor << 16) * (F)(row << 16) + high);
#endif
}

// The pairs of n columns of two rows; the second may be null, and is zero then.
inline void pair_rows(const Bfloat16* first, const Bfloat16* second, int64_t n, Pair* to) {
  if (second)
    for (int64_t i = 0; i < n; ++i) to[i].bits = first[i].bits | uint32_t(second[i].bits) << 16;
  else
    for (int64_t i = 0; i < n; ++i) to[i].bits = first[i].bits;
}

}  // namespace lanes
