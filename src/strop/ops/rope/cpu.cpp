// Rotary position embedding, into another tensor or in place.
#include "bfloat16.h"

using namespace lanes;

constexpr int64_t SMALL = 1 << 15;  // elements below which waking threads costs more than it saves

template <class T>
static void rotate(const T* x, T* y, const float* cos, const float* sin, int64_t N, int64_t H,
                   int64_t C, int64_t P, int64_t xn, int64_t xh, int64_t yn, int64_t yh, int64_t cn,
                   int64_t sn, int32_t inverse, int32_t threads) {
  const float sign = inverse ? -1 : 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (N * H * C > SMALL)
  for (int64_t n = 0; n < N; ++n)
    for (int64_t h = 0; h < H; ++h) {
      const T* from = x + n * xn + h * xh;
      T* to = y + n * yn + h * yh;
      over(P, [&](int64_t i, int64_t count) {
        const F c = load(cos + n * cn + i, count), s = load(sin + n * sn + i, count) * sign;
        const F a = load(from + i, count), b = load(from + P + i, count);
        store(to + i, a * c - b * s, count);
        store(to + P + i, b * c + a * s, count);
      });
      if (to != from) std::memcpy(to + 2 * P, from + 2 * P, (C - 2 * P) * sizeof(T));
    }
}

// Head (n, h) of x starts at x + n * xn + h * xh. y may be x; else the features from 2 P to C are
// copied.
#define FOR(T, suffix)                                                                            \
  extern "C" void rope_rotate_##suffix(                                                           \
      const T* x, T* y, const float* cos, const float* sin, int64_t N, int64_t H, int64_t C,      \
      int64_t P, int64_t xn, int64_t xh, int64_t yn, int64_t yh, int64_t cn, int64_t sn,          \
      int32_t inverse, int32_t threads) {                                                         \
    rotate(x, y, cos, sin, N, H, C, P, xn, xh, yn, yh, cn, sn, inverse, threads);                 \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
