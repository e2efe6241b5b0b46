// What follows the product with the head: each row is read once from memory, then from the cache.
#include <cmath>

#include "lanes.h"

using namespace lanes;

// z [R, V] has the products before, and is overwritten: with the logits, or where gradient is set
// with upstream times the gradient of log_prob with respect to the product. bias may be null, and
// upstream, which then is one; softcap 0 is none.
extern "C" void score(float* z, const float* bias, const int64_t* targets, const float* upstream,
                      float* log_prob, float* entropy, uint8_t* is_top1, int64_t R, int64_t V,
                      int64_t zn, float scale, float softcap, int32_t gradient, int32_t threads) {
  const bool changed = bias || scale != 1 || softcap != 0;
  const float bound = softcap == 0 ? 1 : softcap;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < R; ++r) {
    float* row = z + r * zn;
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
      over(V, [&](int64_t i, int64_t count) { store(row + i, load(row + i, count) * share, count); });
      row[target] += factor;
    } else {
      over(V, [&](int64_t i, int64_t count) {
        const F v = load(row + i, count), t = v / bound;
        store(row + i, exp(v - top) * share * (1.0f - t * t), count);
      });
      const float t = wanted / bound;
      row[target] += factor * (1 - t * t);
    }
  }
}
