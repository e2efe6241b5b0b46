// Rotary position embedding, in place.
#include "lanes.h"

using namespace lanes;

constexpr int64_t SMALL = 1 << 15;  // elements below which waking threads costs more than it saves

// Head (n, h) of x starts at x + n * xn + h * xh.
extern "C" void rope_rotate(float* x, const float* cos, const float* sin, int64_t N, int64_t H,
                            int64_t P, int64_t xn, int64_t xh, int64_t cn, int64_t sn,
                            int32_t inverse, int32_t threads) {
  const float sign = inverse ? -1 : 1;
#pragma omp parallel for schedule(static) num_threads(threads) if (N * H * P > SMALL)
  for (int64_t n = 0; n < N; ++n)
    for (int64_t h = 0; h < H; ++h) {
      float* first = x + n * xn + h * xh;
      float* second = first + P;
      over(P, [&](int64_t i, int64_t count) {
        const F c = load(cos + n * cn + i, count), s = load(sin + n * sn + i, count) * sign;
        const F a = load(first + i, count), b = load(second + i, count);
        store(first + i, a * c - b * s, count);
        store(second + i, b * c + a * s, count);
      });
    }
}
