// What stands between the products of attention, on a tile of scores that is still in the cache.
#include <cmath>

#include "lanes.h"

using namespace lanes;

namespace {

// The columns that row i of a tile sees: those from first to last, both included.
struct Seen {
  int64_t first, last;
};

Seen seen(int64_t i, int64_t top, int64_t m, int64_t window) {
  const int64_t last = top + i < m ? top + i : m - 1;
  const int64_t first = window > 0 && top + i - window + 1 > 0 ? top + i - window + 1 : 0;
  return {first, last};
}

inline F capped(F x, float scale, float softcap) {
  x *= scale;
  return softcap == 0 ? x : softcap * tanh(x / softcap);
}

}  // namespace

// scores [H, n, m] hold products before and weights after; a row's own column is top + its index.
// lse [H, n] has row stride ln. window 0 and softcap 0 mean none.
extern "C" void attention_weights(float* scores, float* lse, int64_t H, int64_t n, int64_t m,
                                  int64_t ln, int64_t top, int64_t window, float scale,
                                  float softcap, int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < H * n; ++r) {
    float* row = scores + r * m;
    const Seen s = seen(r % n, top, m, window);
    const int64_t length = s.last - s.first + 1;
    float* own = row + s.first;
    const float lowest = -std::numeric_limits<float>::infinity();
    F tops = all(lowest);
    over(length, [&](int64_t j, int64_t count) {
      const F x = capped(load(own + j, count), scale, softcap);
      store(own + j, x, count);
      tops = larger(count == W ? x : load(own + j, count, lowest), tops);
    });
    const float most = largest(tops);
    double total = 0;
    blocks(length, [&](int64_t start, int64_t size) {
      F some{};
      over(size, [&](int64_t j, int64_t count) {
        const F e = exp(load(own + start + j, count, lowest) - most);
        store(own + start + j, e, count);
        some += e;
      });
      total += sum(some);
    });
    const float share = float(1 / total);
    over(length, [&](int64_t j, int64_t count) { store(own + j, load(own + j, count) * share, count); });
    for (int64_t j = 0; j < s.first; ++j) row[j] = 0;
    for (int64_t j = s.last + 1; j < m; ++j) row[j] = 0;
    lse[r / n * ln + r % n] = float(most + std::log(total));
  }
}

// scores [H, n, m] hold products before and weights after; dweights [H, n, m] hold <dout, v> before
// and the gradient of the products after. lse and delta [H, n] have row stride ln.
extern "C" void attention_gradients(float* scores, float* dweights, const float* lse,
                                    const float* delta, int64_t H, int64_t n, int64_t m,
                                    int64_t ln, int64_t top, int64_t window, float scale,
                                    float softcap, int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < H * n; ++r) {
    float *row = scores + r * m, *down = dweights + r * m;
    const Seen s = seen(r % n, top, m, window);
    const int64_t at = r / n * ln + r % n;
    const float own_lse = lse[at], own_delta = delta[at];
    over(s.last - s.first + 1, [&](int64_t i, int64_t count) {
      const int64_t j = s.first + i;
      const F x = capped(load(row + j, count), scale, softcap);
      const F weight = exp(x - own_lse);
      F slope = weight * (load(down + j, count) - own_delta) * scale;
      if (softcap != 0) slope *= 1.0f - (x / softcap) * (x / softcap);
      store(row + j, weight, count);
      store(down + j, slope, count);
    });
    for (int64_t j = 0; j < m; ++j)
      if (j < s.first || j > s.last) row[j] = down[j] = 0;
  }
}
