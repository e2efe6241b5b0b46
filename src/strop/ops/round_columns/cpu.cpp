// The columns of a group rounded one after another, W rows of the weight at once: a row of the
// weight needs nothing of another, so its scale and its errors stay in one lane.
#include <vector>

#include "lanes.h"

namespace {
using namespace lanes;

// Levels of any kind, found by halving: `bounds` lie between neighbours, the last is infinite.
template <int count>
struct Levels {
  Table<count> table, bounds;
  float ends[2];

  explicit Levels(const float* from, const float* between)
      : table(from), bounds(between), ends{from[0], from[count - 1]} {}

  // The nearest level to x; `place` is where it stands in the table.
  F nearest(F x, I& place) const {
    place = I{};
    for (int32_t step = count / 2; step > 0; step /= 2)
      place -= (x > bounds[place + (step - 1)]) * step;
    return table[place];
  }
};

// Rounds x up to the next whole number; x is at least -0.5.
inline I up(F x) {
  const I whole = __builtin_convertvector(x, I);
  return whole - (x > __builtin_convertvector(whole, F));
}

// Levels from -1 in even steps.
struct Even {
  float half;
  float ends[2];

  explicit Even(int32_t count) : half(count / 2), ends{-1, (half - 1) / half} {}

  F nearest(F x, I& place) const {
    F at = x * half + (half - 0.5f);
    at = smaller(larger(at, all(-0.5f)), all(2 * half - 1.5f));
    place = up(at);
    return (__builtin_convertvector(place, F) - half) * (1 / half);
  }
};

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

template <class Levels>
F best_scale(const F* rows, const float* importance, F factor, int64_t G, const Levels& levels,
             const Scales& scales, int32_t* chosen) {
  const float top = -levels.ends[0] >= levels.ends[1] ? levels.ends[0] : levels.ends[1];
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
      const F rest = levels.nearest(rows[g] * inverse, place) * scale - rows[g];
      error += rest * rest * importance[g];
    }
    const I better = error < least;
    least = better ? error : least;
    best = better ? scale : best;
    for (int64_t i = 0; i < W; ++i)
      if (better[i]) chosen[i] = codes[i];
  }
  return best;
}

template <class Levels>
void run(const Levels& levels, const float* group, const float* importance, const float* feedback,
         const float* factor, const Scales& scales, uint8_t* codes, uint8_t* chosen,
         float* errors, int64_t G, int64_t E, int64_t stride, int32_t threads) {
  const int64_t parts = (E + W - 1) / W;
#pragma omp parallel for schedule(static) num_threads(threads) if (G * E > 1 << 14)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t from = part * W, count = E - from < W ? E - from : W;
    std::vector<F> rows(G);
    for (int64_t g = 0; g < G; ++g) rows[g] = load(group + g * E + from, count);
    int32_t code[W] = {};
    const F scale = best_scale(rows.data(), importance, load(factor + from, count, 1), G,
                                     levels, scales, code);
    for (int64_t i = 0; i < count; ++i) chosen[from + i] = code[i];
    const F inverse = 1.0f / (scale == 0.0f ? all(1.0f) : scale);
    for (int64_t g = 0; g < G; ++g) {
      I place;
      const F level = levels.nearest(rows[g] * inverse, place);
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

// feedback is null where no error is passed on; without bounds levels are evenly spaced.
extern "C" void round_columns(const float* group, const float* importance, const float* feedback,
                              const float* factor, const float* table, const float* bounds,
                              const float* steps, const float* middles, const float* multiples,
                              uint8_t* codes, uint8_t* chosen, float* errors, int64_t G, int64_t E,
                              int64_t stride, int32_t levels, int32_t step_count, int32_t tried,
                              int32_t threads) {
  const Scales scales{steps, middles, step_count, multiples, tried};
  const auto rounded = [&](const auto& known) {
    run(known, group, importance, feedback, factor, scales, codes, chosen, errors, G, E, stride, threads);
  };
  if (!bounds)
    rounded(Even(levels));
  else if (levels == 16)
    rounded(Levels<16>(table, bounds));
  else if (levels == 32)
    rounded(Levels<32>(table, bounds));
  else if (levels == 64)
    rounded(Levels<64>(table, bounds));
}
