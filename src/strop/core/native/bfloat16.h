// Numbers in bfloat16: the upper halves of floats, widened when read and rounded when written.
#pragma once
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

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

}  // namespace lanes
