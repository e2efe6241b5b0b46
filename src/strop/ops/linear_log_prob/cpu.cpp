// What follows the product with the head: each row is read once from memory, then from the cache.
#include <cmath>
#include <vector>

#include "bfloat16.h"

using namespace lanes;

namespace {

inline void put(float* to, float value) { *to = value; }
inline void put(Bfloat16* to, float value) { store(to, all(value), 1); }

template <class T>
void score(T* z, const float* bias, const int64_t* targets, const float* upstream, float* log_prob,
           float* entropy, uint8_t* is_top1, int64_t R, int64_t V, int64_t zn, float scale,
           float softcap, int32_t gradient, int32_t threads) {
  static thread_local std::vector<float> memory;
  const bool changed = bias || scale != 1 || softcap != 0;
  const float bound = softcap == 0 ? 1 : softcap;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < R; ++r) {
    T* products = z + r * zn;
    float* row = as_floats(products, V, memory);
    const int64_t target = targets[r];
    const float lowest = -std::numeric_limits<float>::infinity();
    if (changed)
      over(V, [&](int64_t i, int64_t count) {
        F v = load(row + i, count);
        if (bias) v += load(bias + i, count);
        v *= scale;
        if (softcap != 0) v = bound * tanh(v / bound);
        store(row + i, v, count);
      });
    F tops = all(lowest), earlier = all(lowest);
    const auto top_of = [&](int64_t from, int64_t length, F& into) {
      over(length, [&](int64_t i, int64_t count) {
        into = larger(load(row + from + i, count, lowest), into);
      });
    };
    top_of(0, target, earlier);
    top_of(target, V - target, tops);
    const float before = largest(earlier), after = largest(tops);
    const float top = before > after ? before : after;
    const float wanted = row[target];
    is_top1[r] = wanted == after && wanted > before;

    const bool keep = gradient && softcap == 0;  // the soft-cap's slope needs the logits again
    double total = 0, weighted = 0;
    blocks(V, [&](int64_t start, int64_t length) {
      F some{}, some_weighted{};
      over(length, [&](int64_t j, int64_t count) {
        const F shifted = load(row + start + j, count, lowest) - top;
        const F e = exp(shifted);
        some += e;
        some_weighted += e * larger(shifted, all(-1e4f));  // 0, not NaN, for what is infinitely low
        if (keep) store(row + start + j, e, count);
      });
      total += sum(some);
      weighted += sum(some_weighted);
    });
    const double log_total = std::log(total);
    log_prob[r] = float(double(wanted) - top - log_total);
    entropy[r] = float(log_total - weighted / total);
    if (!gradient) continue;
    const float factor = upstream ? scale * upstream[r] : scale;
    const F share = all(float(-factor / total));
    if (keep) {
      const float slope = row[target] * share[0] + factor;
      over(V, [&](int64_t i, int64_t count) {
        store(products + i, load(row + i, count) * share, count);
      });
      put(products + target, slope);
    } else {
      const float t = wanted / bound;
      const float weight = exp(all(wanted - top))[0] * share[0];
      over(V, [&](int64_t i, int64_t count) {
        const F v = load(row + i, count), t = v / bound;
        store(products + i, exp(v - top) * share * (1.0f - t * t), count);
      });
      put(products + target, (weight + factor) * (1 - t * t));
    }
  }
}

}  // namespace

// z [R, V] has the products before, and is overwritten where gradient is set: with upstream times the
// gradient of log_prob with respect to the product. bias may be null, and upstream, which then is one;
// softcap 0 is none.
#define FOR(T, suffix)                                                                            \
  extern "C" void score_##suffix(T* z, const float* bias, const int64_t* targets,                 \
                                 const float* upstream, float* log_prob, float* entropy,          \
                                 uint8_t* is_top1, int64_t R, int64_t V, int64_t zn, float scale, \
                                 float softcap, int32_t gradient, int32_t threads) {              \
    score(z, bias, targets, upstream, log_prob, entropy, is_top1, R, V, zn, scale, softcap,       \
          gradient, threads);                                                                     \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
