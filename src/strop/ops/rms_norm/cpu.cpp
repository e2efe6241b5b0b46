// RMS normalisation: each row is read once from memory, its second pass comes from the cache.
#include <vector>

#include "bfloat16.h"

using namespace lanes;

constexpr int64_t SMALL = 1 << 15;  // elements below which waking threads costs more than it saves

template <class T>
static void forward(const T* x, const float* factor, T* y, float* scale, int64_t N, int64_t H,
                    int64_t D, int64_t xn, int64_t xh, int64_t yn, int64_t yh, float eps,
                    int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (N * H * D > SMALL)
  for (int64_t row = 0; row < N * H; ++row) {
    const T* from = x + row / H * xn + row % H * xh;
    T* to = y + row / H * yn + row % H * yh;
    double total = 0;
    blocks(D, [&](int64_t start, int64_t length) {
      F squares{};
      over(length, [&](int64_t i, int64_t count) {
        const F v = load(from + start + i, count);
        squares += v * v;
      });
      total += sum(squares);
    });
    const float s = 1 / __builtin_sqrtf(float(total / D) + eps);
    scale[row] = s;
    over(D, [&](int64_t i, int64_t count) {
      store(to + i, load(from + i, count) * s * load(factor + i, count), count);
    });
  }
}

template <class T>
static void backward(const T* dy, const T* x, const float* factor, const float* scale, T* dx,
                     float* dfactor, int64_t N, int64_t H, int64_t D, int64_t dyn, int64_t dyh,
                     int64_t xn, int64_t xh, int64_t dxn, int64_t dxh, int32_t threads) {
  const int64_t rows = N * H, share = (rows + threads - 1) / threads;
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * D > SMALL)
  for (int32_t thread = 0; thread < threads; ++thread) {
    const int64_t first = thread * share, last = first + share < rows ? first + share : rows;
    std::vector<float> part(dfactor ? D : 0);  // of a few rows: short sums lose little
    for (int64_t row = first; row < last; ++row) {
      const T* up = dy + row / H * dyn + row % H * dyh;
      const T* from = x + row / H * xn + row % H * xh;
      const F s = all(scale[row]);
      if (dfactor) {
        over(D, [&](int64_t i, int64_t count) {
          const F term = load(up + i, count) * (load(from + i, count) * s);
          store(part.data() + i, load(part.data() + i, count) + term, count);
        });
        if ((row - first) % 32 == 31 || row + 1 == last) {
          float* into = dfactor + thread * D;
          over(D, [&](int64_t i, int64_t count) {
            store(into + i, load(into + i, count) + load(part.data() + i, count), count);
            store(part.data() + i, F{}, count);
          });
        }
      }
      if (!dx) continue;
      double total = 0;
      blocks(D, [&](int64_t start, int64_t length) {
        F products{};
        over(length, [&](int64_t j, int64_t count) {
          const int64_t i = start + j;
          products += load(up + i, count) * load(factor + i, count) * load(from + i, count);
        });
        total += sum(products);
      });
      const F mean = all(float(total * scale[row] / D));
      T* to = dx + row / H * dxn + row % H * dxh;
      over(D, [&](int64_t i, int64_t count) {
        const F dunit = load(up + i, count) * load(factor + i, count);
        store(to + i, (dunit - load(from + i, count) * s * mean) * s, count);
      });
    }
  }
}

// Row (n, h) of x starts at x + n * xn + h * xh; scale is [N, H] without gaps. dx or dfactor may be
// null. dx may be dy or x. dfactor is [threads, D], zero before.
#define FOR(T, suffix)                                                                            \
  extern "C" void rms_norm_forward_##suffix(                                                      \
      const T* x, const float* factor, T* y, float* scale, int64_t N, int64_t H, int64_t D,       \
      int64_t xn, int64_t xh, int64_t yn, int64_t yh, float eps, int32_t threads) {               \
    forward(x, factor, y, scale, N, H, D, xn, xh, yn, yh, eps, threads);                          \
  }                                                                                               \
  extern "C" void rms_norm_backward_##suffix(                                                     \
      const T* dy, const T* x, const float* factor, const float* scale, T* dx, float* dfactor,    \
      int64_t N, int64_t H, int64_t D, int64_t dyn, int64_t dyh, int64_t xn, int64_t xh,          \
      int64_t dxn, int64_t dxh, int32_t threads) {                                                \
    backward(dy, x, factor, scale, dx, dfactor, N, H, D, dyn, dyh, xn, xh, dxn, dxh, threads);    \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
