// Arithmetic on as many floats at once as the machine has lanes.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

namespace lanes {

#if defined(__AVX512F__)
constexpr int64_t W = 16;
#elif defined(__AVX__)
constexpr int64_t W = 8;
#else
constexpr int64_t W = 4;
#endif

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));

inline F all(float value) { return F{} + value; }

inline F load(const float* from, int64_t count = W, float rest = 0) {
  F lanes = all(rest);
  if (count == W)
    std::memcpy(&lanes, from, sizeof lanes);
  else
    for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return lanes;
}

inline void store(float* to, F lanes, int64_t count = W) {
  if (count == W)
    std::memcpy(to, &lanes, sizeof lanes);
  else
    for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Calls body(offset, count) for each W of n elements; count is the constant W except at the end.
template <class Body>
inline __attribute__((always_inline)) void over(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + W <= n; i += W) body(i, W);
  if (i < n) body(i, n - i);
}

// Elements after which a sum of floats goes on in double: short sums lose little.
constexpr int64_t BLOCK = 2048;

// Calls body(offset, count) for each block of n elements.
template <class Body>
inline __attribute__((always_inline)) void blocks(int64_t n, Body body) {
  for (int64_t i = 0; i < n; i += BLOCK) body(i, n - i < BLOCK ? n - i : BLOCK);
}

// Numbers that are looked up by their place; `count` is a power of two.
template <int count>
class Table {
  static constexpr int parts = count <= W ? 1 : count / W;
  F part[parts];

  // The numbers of two neighbouring parts, or of the only one.
  F pair(int p, I place) const {
#if defined(__GNUC__) && !defined(__clang__)
    return parts == 1 ? __builtin_shuffle(part[0], place)
                      : __builtin_shuffle(part[p], part[(p + 1) % parts], place);
#else
    F found;
    for (int64_t i = 0; i < W; ++i)
      found[i] = part[(p + (place[i] / W) % 2) % parts][place[i] % W];
    return found;
#endif
  }

 public:
  explicit Table(const float* from) {
    for (int p = 0; p < parts; ++p) part[p] = load(from + p * W, count < W ? count : W);
  }

  F operator[](I place) const {
    F found = pair(0, place);
    for (int p = 2; p < parts; p += 2) found = place >= int32_t(p * W) ? pair(p, place) : found;
    return found;
  }
};

inline double sum(F lanes) {
  double total = 0;
  for (int64_t i = 0; i < W; ++i) total += lanes[i];
  return total;
}

inline F larger(F a, F b) { return a > b ? a : b; }
inline F smaller(F a, F b) { return a < b ? a : b; }

inline float largest(F lanes) {
  float top = lanes[0];
  for (int64_t i = 1; i < W; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

inline F magnitude(F x) { return (F)((I)x & 0x7fffffff); }
inline F with_sign_of(F x, F sign) { return (F)(((I)x & 0x7fffffff) | ((I)sign & INT32_MIN)); }

// 2^n for whole n in -126 ... 127
inline F power_of_two(I n) { return (F)((n + 127) << 23); }

// Writes x as n ln 2 + r with |r| <= ln 2 / 2, and returns exp(r) - 1. For |x| below 128.
inline F split(F x, I& n, F& whole) {
  // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits.
  const F shifted = x * 1.44269504f + 12582912.0f;
  n = (I)shifted - 0x4b400000;
  whole = shifted - 12582912.0f;
  F r = x - whole * 0.693145752f;
  r = r - whole * 1.42860677e-6f;
  F p = r * 1.98412698e-4f + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  return p * (r * r) + r;
}

// Within 2 units in the last place; 0 below -104, infinite above 89, NaN for NaN.
inline F exp(F x) {
  x = x < -104.0f ? all(-104.0f) : x;
  x = x > 89.0f ? all(89.0f) : x;
  I n;
  F whole;
  const F p = split(x, n, whole) + 1.0f;
  const I half = n >> 1;  // two steps, for 2^n itself may not be a normal number
  return p * power_of_two(half) * power_of_two(n - half);
}

// Within 3 units in the last place.
inline F tanh(F x) {
  I n;
  F whole;
  F twice = magnitude(x) * 2.0f;
  twice = twice > 20.0f ? all(20.0f) : twice;
  const F p = split(twice, n, whole);
  const F power = power_of_two(n);
  const F less_one = p * power + (power - 1.0f);  // exp(2 |x|) - 1
  return with_sign_of(less_one / (less_one + 2.0f), x);
}

inline F sigmoid(F x) { return 1.0f / (1.0f + exp(-x)); }

// Within 2 units in the last place: one polynomial near zero, exp of one beyond.
inline F erf(F x) {
  const F t = magnitude(x), s = x * x;
  F u = t * -3.88396438e-3f + 2.42546219e-2f;
  F far = t * -1.72853470e-5f + 3.83197126e-4f;
  far = far * s + u;
  far = far * t + -1.06777877e-1f;
  far = far * t + -6.34846687e-1f;
  far = far * t + -1.28717512e-1f;
  far = far * t - t;
  far = with_sign_of(1.0f - exp(far), x);
  F near = s * -5.96761703e-4f + 4.99119423e-3f;
  near = near * s + -2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s + -3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * x + x;
  return t > 0.927734375f ? far : near;
}

}  // namespace lanes
