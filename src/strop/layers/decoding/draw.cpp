// The next token of each of B rows of logits, and its log-probability.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.h"

using namespace lanes;

namespace {

constexpr int64_t PART = 512;  // weights whose sum is held, so that a draw reads one part only

struct Wish {
  double temperature, top_k, top_p, min_p, number;  // number in [0, 1)
};

struct Scratch {
  std::vector<float> weights, sorted;
  std::vector<double> sums;
  std::vector<int64_t> order;
};

float largest_of(const float* x, int64_t V) {
  F most = all(-std::numeric_limits<float>::infinity());
  over(V, [&](int64_t i, int64_t count) {
    most = larger(load(x + i, count, -std::numeric_limits<float>::infinity()), most);
  });
  return largest(most);
}

double log_sum_exp(const float* x, int64_t V) {
  const float top = largest_of(x, V);
  double total = 0;
  for (int64_t first = 0; first < V; first += PART) {
    F part{};
    over(std::min(PART, V - first), [&](int64_t i, int64_t count) {
      const F e = exp(load(x + first + i, count, -std::numeric_limits<float>::infinity()) - top);
      part += e;
    });
    total += sum(part);
  }
  return top + std::log(total);
}

// weights = exp(x / temperature - its maximum)
void weigh(const float* x, int64_t V, float temperature, float* weights) {
  const float top = largest_of(x, V) / temperature;
  over(V, [&](int64_t i, int64_t count) {
    store(weights + i, exp(load(x + i, count) / temperature - top), count);
  });
}

void keep_largest(const float* x, int64_t V, int64_t k, Scratch& s) {
  s.sorted.assign(x, x + V);
  std::nth_element(s.sorted.begin(), s.sorted.begin() + (k - 1), s.sorted.end(), std::greater<float>());
  const float least = s.sorted[k - 1];
  for (int64_t i = 0; i < V; ++i)
    if (x[i] < least) s.weights[i] = 0;
}

// Keeps the likeliest whose probabilities reach `share`; of equal ones those with the larger id.
void keep_share(int64_t V, double share, Scratch& s) {
  const float* w = s.weights.data();
  double total = 0;
  for (int64_t i = 0; i < V; ++i) total += w[i];
  for (double least : {1e-3, 1e-6, 0.0}) {  // few are sorted where few are needed
    s.order.clear();
    double some = 0;
    for (int64_t i = 0; i < V; ++i)
      if (w[i] > least) s.order.push_back(i), some += w[i];
    if (some > share * total + 1e-9 * total || least == 0.0) break;
  }
  std::sort(s.order.begin(), s.order.end(),
            [&](int64_t i, int64_t j) { return w[i] > w[j] || (w[i] == w[j] && i > j); });
  double before = 0;
  size_t count = 0;
  while (count < s.order.size() && (!count || total - before > (1 - share) * total))
    before += w[s.order[count++]];
  const int64_t last = s.order[count - 1];
  const float least = w[last];
  for (int64_t i = 0; i < V; ++i)
    if (w[i] < least || (w[i] == least && i < last)) s.weights[i] = 0;
}

int64_t drawn(const float* x, int64_t V, const Wish& wish, Scratch& s) {
  if (wish.temperature == 0) {
    const float top = largest_of(x, V);
    return std::find(x, x + V, top) - x;
  }
  s.weights.resize(V);
  weigh(x, V, float(wish.temperature), s.weights.data());
  if (wish.top_k > 0 && wish.top_k < V) keep_largest(x, V, int64_t(wish.top_k), s);
  if (wish.top_p < 1) keep_share(V, wish.top_p, s);
  float* w = s.weights.data();
  if (wish.min_p > 0)
    for (int64_t i = 0; i < V; ++i)
      if (w[i] < float(wish.min_p)) w[i] = 0;
  const int64_t parts = (V + PART - 1) / PART;
  s.sums.resize(parts);
  double total = 0;
  for (int64_t p = 0; p < parts; ++p) {
    double part = 0;
    for (int64_t i = p * PART; i < std::min(V, (p + 1) * PART); ++i) part += w[i];
    total += s.sums[p] = part;
  }
  const double reach = wish.number * total;
  double before = 0;
  int64_t p = 0;
  while (p + 1 < parts && before + s.sums[p] <= reach) before += s.sums[p++];
  for (int64_t i = p * PART; i < V; ++i)
    if (w[i] > 0 && (before += w[i]) > reach) return i;
  int64_t last = V - 1;  // where rounding put the end below the number
  while (last > 0 && w[last] == 0) --last;
  return last;
}

}  // namespace

// Of scores [B, V] the next tokens, and their log-probabilities by logits [B, V].
extern "C" void draw(const float* scores, const float* logits, const Wish* wishes, int64_t* tokens,
                     float* log_probs, int64_t B, int64_t V, int32_t threads) {
  const int32_t team = int32_t(std::min<int64_t>(threads, B));
#pragma omp parallel num_threads(team) if (team > 1)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic)
    for (int64_t n = 0; n < B; ++n) {
      tokens[n] = drawn(scores + n * V, V, wishes[n], scratch);
      log_probs[n] = float(logits[n * V + tokens[n]] - log_sum_exp(logits + n * V, V));
    }
  }
}
