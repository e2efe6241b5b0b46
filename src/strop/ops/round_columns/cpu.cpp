// The columns of a group rounded one after another, W rows of the weight at once: a row of the
// weight needs nothing of another, so its scale and its errors stay in one lane.
#include <vector>

#include "lanes.h"

namespace {
using namespace lanes;

struct Levels {
  const float* table;
  const float* bounds;  // between neighbouring levels
  int32_t count;
};

// Rounds x up to the next whole number; x is at least -0.5.
inline I up(F x) {
  const I whole = __builtin_convertvector(x, I);
  return whole - (x > __builtin_convertvector(whole, F));
}

// The nearest level to x; `place` is where it stands in the table.
template <bool even>
inline F nearest(F x, const Levels& levels, I& place) {
  if (even) {  // from -1 in steps of 2 / count
    const float half = levels.count / 2;
    F at = x * half + (half - 0.5f);
    at = smaller(larger(at, all(-0.5f)), all(levels.count - 1.5f));
    place = up(at);
    return (__builtin_convertvector(place, F) - half) * (1 / half);
  }
  F level = all(levels.table[0]);
  place = I{};
  for (int32_t k = 0; k + 1 < levels.count; ++k) {
    const I above = x > levels.bounds[k];
    level = above ? all(levels.table[k + 1]) : level;
    place -= above;
  }
  return level;
}

struct Scales {
  const float* steps;
  const float* middles;
  int32_t count;
  const float* multiples;
  int32_t tried;
};

inline int32_t step(float value, const Scales& scales) {
  int32_t low = 0, high = scales.count - 1;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (value > scales.middles[middle])
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Of each of W rows the number of largest magnitude, the first of equals.
inline F largest_of(const F* rows, int64_t G) {
  F best = rows[0];
  for (int64_t g = 1; g < G; ++g) best = magnitude(rows[g]) > magnitude(best) ? rows[g] : best;
  return best;
}

template <bool even>
F best_scale(const F* rows, const float* energy, F factor, int64_t G, const Levels& levels,
             const Scales& scales, int32_t* chosen) {
  const float* t = levels.table;
  const float top = -t[0] >= t[levels.count - 1] ? t[0] : t[levels.count - 1];
  const F largest = largest_of(rows, G) * top;
  F least = all(std::numeric_limits<float>::infinity()), best = F{};
  for (int32_t m = 0; m < scales.tried; ++m) {
    const F wanted = largest * scales.multiples[m] / factor;
    int32_t codes[W];
    F scale;
    for (int64_t i = 0; i < W; ++i) {
      codes[i] = step(wanted[i], scales);
      scale[i] = scales.steps[codes[i]];
    }
    scale *= factor;
    const F inverse = 1.0f / (scale == 0.0f ? all(1.0f) : scale);
    F error = F{};
    for (int64_t g = 0; g < G; ++g) {
      I place;
      const F rest = nearest<even>(rows[g] * inverse, levels, place) * scale - rows[g];
      error += rest * rest * energy[g];
    }
    const I better = error < least;
    least = better ? error : least;
    best = better ? scale : best;
    for (int64_t i = 0; i < W; ++i)
      if (better[i]) chosen[i] = codes[i];
  }
  return best;
}

template <bool even>
void run(const float* group, const float* energy, const float* feedback, const float* factor,
         const Levels& levels, const Scales& scales, uint8_t* codes, uint8_t* chosen,
         float* errors, int64_t G, int64_t E, int64_t stride, int32_t threads) {
  const int64_t parts = (E + W - 1) / W;
#pragma omp parallel for schedule(static) num_threads(threads) if (G * E > 1 << 14)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t from = part * W, count = E - from < W ? E - from : W;
    std::vector<F> rows(G);
    for (int64_t g = 0; g < G; ++g) rows[g] = load(group + g * E + from, count);
    int32_t code[W] = {};
    const F scale = best_scale<even>(rows.data(), energy, load(factor + from, count, 1), G,
                                     levels, scales, code);
    for (int64_t i = 0; i < count; ++i) chosen[from + i] = code[i];
    const F inverse = 1.0f / (scale == 0.0f ? all(1.0f) : scale);
    for (int64_t g = 0; g < G; ++g) {
      I place;
      const F level = nearest<even>(rows[g] * inverse, levels, place);
      for (int64_t i = 0; i < count; ++i) codes[g * E + from + i] = place[i];
      if (!feedback) continue;
      const float* row = feedback + g * stride;
      const F error = (rows[g] - level * scale) / row[g];
      store(errors + g * E + from, error, count);
      for (int64_t h = g + 1; h < G; ++h) rows[h] -= error * row[h];
    }
  }
}

}  // namespace

// feedback is null where no error is passed on.
extern "C" void round_columns(const float* group, const float* energy, const float* feedback,
                              const float* factor, const float* table, const float* bounds,
                              const float* steps, const float* middles, const float* multiples,
                              uint8_t* codes, uint8_t* chosen, float* errors, int64_t G, int64_t E,
                              int64_t stride, int32_t levels, int32_t step_count, int32_t tried,
                              int32_t threads) {
  const Levels known{table, bounds, levels};
  const Scales scales{steps, middles, step_count, multiples, tried};
  if (levels >= 32)
    run<true>(group, energy, feedback, factor, known, scales, codes, chosen, errors, G, E, stride,
              threads);
  else
    run<false>(group, energy, feedback, factor, known, scales, codes, chosen, errors, G, E, stride,
               threads);
}
