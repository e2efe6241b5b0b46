// One new token for each of B rows through all blocks of a decoder, and its logits.
//
// Weights are read in the format they are stored in, once for all rows; sums are in float32 and do not
// depend on how many rows there are. Threads divide the outputs of each product among themselves.
#include <algorithm>
#include <cmath>
#include <vector>

#include "products.h"

using namespace lanes;

namespace {

constexpr int64_t BLOCK = 64;  // tokens of a block of the cache
constexpr int64_t ROWS = W == 16 ? 8 : 4;  // rows whose sums are in registers at once
constexpr int64_t OUTPUTS = 3;             // and outputs
constexpr int64_t STRIP = 48;              // outputs of which a thread has the weights near
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

enum Kind : int64_t { FLOAT32, BFLOAT16, FLOAT16, BITS4, BITS5, BITS6, BITS8 };
enum Activation : int64_t { SILU, GELU_TANH, GELU };

struct Norm {  // x / sqrt(mean(x^2) + eps) * (offset + weight); none where weight is null
  const float* weight;
  float eps, offset;
};

struct Linear {  // y = (x W^T + scale (x A^T) B^T) * factor + bias
  const void* weight;
  const float *bias, *a, *b, *factor;
  const float* table;
  const void* scale_codes;  // floats where scale_table is null
  const float *scale_table, *factors;
  int64_t kind, E, D, R, group, scale_group;
  float scale, offset;
};

struct Layer {
  Norm norm, q_norm, k_norm, post_norm, mlp_norm, post_mlp_norm;
  Linear qkv[3], o, gate_up[2], down;
  const float *cos, *sin;  // [B, P]
  int64_t qkv_count, gate_up_count, H, K, C, P, window, activation;
  float scale, softcap;
};

struct Span {  // tokens of a block that the rows from low to before high see
  float* block;
  int64_t count, start, low, high;  // start: the position of the first
};

struct Place {  // where a row's new token goes
  float* block;
  int64_t column, position;
};

struct Head {
  Norm norm;
  Linear linear;
  float scale, softcap;
};

inline float widened(uint16_t half) {  // of float16
  const uint32_t sign = uint32_t(half & 0x8000) << 16, rest = half & 0x7fff;
  uint32_t bits = sign | ((rest << 13) + (112u << 23));
  if (rest >= 0x7c00) bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
  float value;
  if (rest < 0x400) {
    value = float(rest) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  std::memcpy(&value, &bits, 4);
  return value;
}

struct Floats {
  const float* row[OUTPUTS];
  F operator()(int e, int64_t i, int64_t count) const { return load(row[e] + i, count); }
};

struct Bfloats {
  const uint16_t* row[OUTPUTS];
  F operator()(int e, int64_t i, int64_t count) const {
    typedef uint16_t Half __attribute__((vector_size(2 * W)));
    typedef uint32_t U __attribute__((vector_size(4 * W)));
    Half half{};
    if (count == W)
      std::memcpy(&half, row[e] + i, sizeof half);
    else
      for (int64_t k = 0; k < count; ++k) half[k] = row[e][i + k];
    return (F)(__builtin_convertvector(half, U) << 16);
  }
};

inline float total(F lanes) {
#if defined(__GNUC__) && !defined(__clang__)
  if (W == 16) {
    typedef float Half __attribute__((vector_size(32)));
    typedef float Quarter __attribute__((vector_size(16)));
    Half h[2];
    std::memcpy(h, &lanes, sizeof lanes);
    const Half s = h[0] + h[1];
    Quarter q[2];
    std::memcpy(q, &s, sizeof s);
    const Quarter r = q[0] + q[1];
    return (r[0] + r[2]) + (r[1] + r[3]);
  }
#endif
  float sum = 0;
  for (int64_t i = 0; i < W; ++i) sum += lanes[i];
  return sum;
}

// sums [N, E] of rows x with the weights from `rows`, then with b and t over R.
template <int N, int E, class Weights>
inline void tile(const Weights& rows, const float* x, int64_t xs, int64_t D, const float* const* b,
                 const float* t, int64_t ts, int64_t R, float* sums) {
  F sum[N][E] = {};
  const auto add = [&](auto weight, const float* from, int64_t stride, int64_t length) {
    over(length, [&](int64_t i, int64_t count) {
      F w[E];
#pragma GCC unroll 8
      for (int e = 0; e < E; ++e) w[e] = weight(e, i, count);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const F value = load(from + n * stride + i, count);
#pragma GCC unroll 8
        for (int e = 0; e < E; ++e) sum[n][e] += w[e] * value;
      }
    });
  };
  add([&](int e, int64_t i, int64_t count) { return rows(e, i, count); }, x, xs, D);
  if (R) add([&](int e, int64_t i, int64_t count) { return load(b[e] + i, count); }, t, ts, R);
  for (int n = 0; n < N; ++n)
    for (int e = 0; e < E; ++e) sums[n * E + e] = total(sum[n][e]);
}

template <int E, class Weights>
void tile_of(int64_t n, const Weights& rows, const float* x, int64_t xs, int64_t D,
             const float* const* b, const float* t, int64_t ts, int64_t R, float* sums) {
  switch (n) {
    case 8: return tile<ROWS < 8 ? 4 : 8, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 7: return tile<ROWS < 8 ? 4 : 7, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 6: return tile<ROWS < 8 ? 4 : 6, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 5: return tile<ROWS < 8 ? 4 : 5, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 4: return tile<4, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 3: return tile<3, E>(rows, x, xs, D, b, t, ts, R, sums);
    case 2: return tile<2, E>(rows, x, xs, D, b, t, ts, R, sums);
    default: return tile<1, E>(rows, x, xs, D, b, t, ts, R, sums);
  }
}

struct Scales {
  const Linear& l;
  float operator[](int64_t j) const {
    if (!l.scale_table) return static_cast<const float*>(l.scale_codes)[j];
    const volatile float product =
        l.scale_table[static_cast<const uint8_t*>(l.scale_codes)[j]] * l.factors[j / l.scale_group];
    return product + l.offset;
  }
};

template <int bits>
void expand_bits(const Linear& l, int64_t e, float* to) {
  const int64_t half = (l.E * l.D + 1) / 2;
  const uint8_t* low = static_cast<const uint8_t*>(l.weight);
  const uint8_t* high = low + half;
  const Scales scales{l};
  for (int64_t first = 0; first < l.D; first += l.group) {
    const int64_t at = e * l.D + first, n = std::min(l.group, l.D - first);
    const float scale = scales[at / l.group];
    for (int64_t k = 0; k < n; ++k) {
      const int64_t i = at + k;
      int code;
      if (bits == 8) {
        code = low[i];
      } else {
        code = i & 1 ? low[i >> 1] & 15 : low[i >> 1] >> 4;
        if (bits == 5) code |= ((high[i >> 3] >> (i & 7)) & 1) << 4;
        if (bits == 6) code |= ((high[i >> 2] >> (2 * (i & 3))) & 3) << 4;
      }
      to[first + k] = l.table[code] * scale;
    }
  }
}

#if defined(__GNUC__) && !defined(__clang__) && (defined(__AVX512F__) || defined(__AVX2__))
// Sixteen or eight weights at once, even and odd ones apart, then brought into order.
void expand4(const Linear& l, int64_t e, float* to) {
  typedef uint8_t Byte __attribute__((vector_size(W)));
  const Table<16> levels(l.table);
  const Scales scales{l};
  const uint8_t* codes = static_cast<const uint8_t*>(l.weight);
  I low{}, high{};
  for (int k = 0; k < W; ++k) {
    low[k] = k % 2 ? W + k / 2 : k / 2;
    high[k] = low[k] + W / 2;
  }
  for (int64_t first = 0; first < l.D; first += l.group) {
    const int64_t at = e * l.D + first;
    const float scale = scales[at / l.group];
    for (int64_t k = 0; k < l.group; k += 2 * W) {
      Byte bytes;
      std::memcpy(&bytes, codes + (at + k) / 2, sizeof bytes);
      const I code = __builtin_convertvector(bytes, I);
      const F even = levels[code >> 4] * scale, odd = levels[code & 15] * scale;
      store(to + first + k, __builtin_shuffle(even, odd, low));
      store(to + first + k + W, __builtin_shuffle(even, odd, high));
    }
  }
}
constexpr bool FAST4 = true;
#else
void expand4(const Linear& l, int64_t e, float* to) { expand_bits<4>(l, e, to); }
constexpr bool FAST4 = false;
#endif

// Writes row e of a weight as floats.
void expand(const Linear& l, int64_t e, float* to) {
  switch (l.kind) {
    case FLOAT16: {
      const uint16_t* row = static_cast<const uint16_t*>(l.weight) + e * l.D;
      for (int64_t i = 0; i < l.D; ++i) to[i] = widened(row[i]);
      return;
    }
    case BITS4:
      return FAST4 && l.group % (2 * W) == 0 ? expand4(l, e, to) : expand_bits<4>(l, e, to);
    case BITS5: return expand_bits<5>(l, e, to);
    case BITS6: return expand_bits<6>(l, e, to);
    default: return expand_bits<8>(l, e, to);
  }
}

template <class Weights, class Row>
void strip(const Linear& l, int64_t first, int64_t last, const float* x, int64_t xs, int64_t N,
           const float* t, int64_t ts, float* out, int64_t os, bool add, Row row) {
  for (int64_t n = 0; n < N; n += ROWS) {
    const int64_t rows = std::min(ROWS, N - n);
    for (int64_t e = first; e < last; e += OUTPUTS) {
      const int64_t outputs = std::min(OUTPUTS, last - e);
      Weights weights;
      const float* b[OUTPUTS];
      for (int64_t k = 0; k < OUTPUTS; ++k) {
        const int64_t at = std::min(e + k, last - 1);
        weights.row[k] = row(at);
        b[k] = l.R ? l.b + at * l.R : nullptr;
      }
      float sums[ROWS * OUTPUTS];
      tile_of<OUTPUTS>(rows, weights, x + n * xs, xs, l.D, b, t + n * ts, ts, l.R, sums);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < outputs; ++k) {
          float y = sums[r * OUTPUTS + k];
          if (l.factor) y *= l.factor[e + k];
          if (l.bias) y += l.bias[e + k];
          float* to = out + (n + r) * os + e + k;
          *to = add ? *to + y : y;
        }
    }
  }
}

thread_local std::vector<float> expanded;

// out [N, E] = the layer's outputs for x [N, D], or added to it. t [N, R] is scale * x A^T.
void product_of(const Linear& l, const float* x, int64_t xs, int64_t N, const float* t, int64_t ts,
                float* out, int64_t os, bool add) {
  const int64_t strips = (l.E + STRIP - 1) / STRIP;
#pragma omp for schedule(static) nowait
  for (int64_t s = 0; s < strips; ++s) {
    const int64_t first = s * STRIP, last = std::min(l.E, first + STRIP);
    if (l.kind == FLOAT32) {
      const float* w = static_cast<const float*>(l.weight);
      strip<Floats>(l, first, last, x, xs, N, t, ts, out, os, add,
                    [&](int64_t e) { return w + e * l.D; });
    } else if (l.kind == BFLOAT16) {
      const uint16_t* w = static_cast<const uint16_t*>(l.weight);
      strip<Bfloats>(l, first, last, x, xs, N, t, ts, out, os, add,
                     [&](int64_t e) { return w + e * l.D; });
    } else {
      if (int64_t(expanded.size()) < STRIP * l.D) expanded.resize(STRIP * l.D);
      float* w = expanded.data();
      for (int64_t e = first; e < last; ++e) expand(l, e, w + (e - first) * l.D);
      strip<Floats>(l, first, last, x, xs, N, t, ts, out, os, add,
                    [&](int64_t e) { return w + (e - first) * l.D; });
    }
  }
}

// The outputs of layers that share an input, side by side; adapters first.
void products_of(const Linear* layers, int64_t count, const float* x, int64_t xs, int64_t N,
                 float* narrow, float* out, int64_t os, bool add) {
  int64_t ranks = 0, at = 0;
  for (int64_t i = 0; i < count; ++i) ranks += layers[i].R;
  for (int64_t i = 0; ranks && i < count; ++i) {
    const Linear& l = layers[i];
    const int64_t total_rank = l.R, D = l.D;
#pragma omp for schedule(static) nowait
    for (int64_t k = 0; k < N * total_rank; ++k) {
      const float *row = l.a + k % total_rank * D, *in = x + k / total_rank * xs;
      F sum{};
      over(D, [&](int64_t j, int64_t c) { sum += load(row + j, c) * load(in + j, c); });
      narrow[k / total_rank * ranks + at + k % total_rank] = l.scale * total(sum);
    }
    at += total_rank;
  }
  if (ranks) {
#pragma omp barrier
  }
  at = 0;
  for (int64_t i = 0; i < count; ++i) {
    product_of(layers[i], x, xs, N, narrow + at, ranks, out, os, add);
    at += layers[i].R;
    out += layers[i].E;
  }
#pragma omp barrier
}

void norm_of(const Norm& norm, const float* x, int64_t n, float* to) {
  F squares{};
  over(n, [&](int64_t i, int64_t count) {
    const F value = load(x + i, count);
    squares += value * value;
  });
  const float factor = 1.0f / std::sqrt(total(squares) / float(n) + norm.eps);
  over(n, [&](int64_t i, int64_t count) {
    store(to + i, load(x + i, count) * factor * (norm.offset + load(norm.weight + i, count)), count);
  });
}

inline F activated(F g, int64_t activation) {
  if (activation == SILU) return g * sigmoid(g);
  if (activation == GELU_TANH)
    return g * 0.5f * (1.0f + tanh(0.797884561f * g * (1.0f + 0.044715f * g * g)));
  return g * 0.5f * (1.0f + erf(g * 0.707106781f));
}

void rotate(float* x, const float* cos, const float* sin, int64_t P) {
  over(P, [&](int64_t i, int64_t count) {
    const F first = load(x + i, count), second = load(x + P + i, count);
    const F c = load(cos + i, count), s = load(sin + i, count);
    store(x + i, first * c - second * s, count);
    store(x + P + i, second * c + first * s, count);
  });
}

// A block is [L, 2, K, Cp * BLOCK]: keys as [C, BLOCK], values as [BLOCK, Cp].
inline int64_t padded(int64_t C) { return (C + 15) / 16 * 16; }
inline float* keys_at(float* block, const Layer& l, int64_t layer, int64_t k) {
  return block + ((layer * 2) * l.K + k) * padded(l.C) * BLOCK;
}
inline float* values_at(float* block, const Layer& l, int64_t layer, int64_t k) {
  return block + ((layer * 2 + 1) * l.K + k) * padded(l.C) * BLOCK;
}

// Norms of heads, rotation, and the new keys and values into the cache, of one row.
void place_row(const Layer& l, int64_t layer, float* qkv, const Place& place, int64_t n) {
  for (int64_t h = 0; h < l.H + l.K; ++h) {
    float* head = qkv + h * l.C;
    const Norm& norm = h < l.H ? l.q_norm : l.k_norm;
    if (norm.weight) norm_of(norm, head, l.C, head);
    rotate(head, l.cos + n * l.P, l.sin + n * l.P, l.P);
  }
  for (int64_t k = 0; k < l.K; ++k) {
    float* keys = keys_at(place.block, l, layer, k) + place.column;
    const float* head = qkv + (l.H + k) * l.C;
    for (int64_t c = 0; c < l.C; ++c) keys[c * BLOCK] = head[c];
    std::memcpy(values_at(place.block, l, layer, k) + place.column * padded(l.C),
                qkv + (l.H + l.K + k) * l.C, l.C * sizeof(float));
  }
}

thread_local std::vector<float> attending;

// Attention of the rows from low to before high under key head k: out [B, H C].
void attend(const Layer& l, int64_t layer, int64_t k, int64_t low, int64_t high, const float* qkv,
            int64_t qs, const Span* spans, int64_t S, const Place* places, float* out) {
  const int64_t G = l.H / l.K, n = (high - low) * G, C = l.C, Cp = padded(C);
  attending.resize(n * (C + Cp + BLOCK + 2));
  float *q = attending.data(), *sums = q + n * C, *scores = sums + n * Cp, *tops = scores + n * BLOCK,
        *totals = tops + n;
  for (int64_t i = 0; i < n; ++i) {
    const float* from = qkv + (low + i / G) * qs + (k * G + i % G) * C;
    for (int64_t c = 0; c < C; ++c) q[i * C + c] = from[c] * l.scale;
  }
  std::fill(sums, sums + n * Cp, 0.0f);
  std::fill(tops, tops + n, LOWEST);
  std::fill(totals, totals + n, 0.0f);
  for (int64_t s = 0; s < S; ++s) {
    const Span& span = spans[s];
    const int64_t from = std::max(low, span.low), to = std::min(high, span.high);
    if (from >= to) continue;
    int64_t first = span.count;  // the first key that any of the rows sees
    for (int64_t r = from; r < to; ++r)
      first = std::min(first, l.window ? std::max<int64_t>(0, places[r].position - l.window + 1 - span.start) : 0);
    if (first >= span.count) continue;
    const float *keys = keys_at(span.block, l, layer, k), *values = values_at(span.block, l, layer, k);
    const int64_t begin = (from - low) * G, end = (to - low) * G;
    for (int64_t i = begin; i < end; i += MR)
      for (int64_t j = 0; j < span.count; j += NV * W)
        product(std::min(MR, end - i), std::min(NV * W, span.count - j), C, q + i * C, C, 1, keys + j,
                BLOCK, scores + i * BLOCK + j, BLOCK, false);
    for (int64_t i = begin; i < end; ++i) {
      float* row = scores + i * BLOCK;
      const int64_t place = places[low + i / G].position;
      const int64_t hidden =
          l.window ? std::max<int64_t>(0, place - l.window + 1 - span.start) : 0;
      if (l.softcap != 0)
        over(span.count, [&](int64_t j, int64_t count) {
          store(row + j, l.softcap * tanh(load(row + j, count) / l.softcap), count);
        });
      std::fill(row, row + std::min(hidden, span.count), LOWEST);
      F most = all(LOWEST);
      over(span.count, [&](int64_t j, int64_t count) { most = larger(load(row + j, count, LOWEST), most); });
      const float top = std::max(tops[i], largest(most));
      if (top == LOWEST) {
        std::fill(row, row + span.count, 0.0f);
        continue;
      }
      F some{};
      over(span.count, [&](int64_t j, int64_t count) {
        const F e = exp(load(row + j, count, LOWEST) - top);
        store(row + j, e, count);
        some += e;
      });
      if (top > tops[i]) {
        const float shrink = std::exp(tops[i] - top);
        totals[i] *= shrink;
        for (int64_t c = 0; c < C; ++c) sums[i * Cp + c] *= shrink;
        tops[i] = top;
      }
      totals[i] += total(some);
    }
    for (int64_t i = begin; i < end; i += MR)
      for (int64_t c = 0; c < C; c += NV * W)
        product(std::min(MR, end - i), std::min(NV * W, C - c), span.count, scores + i * BLOCK, BLOCK,
                1, values + c, Cp, sums + i * Cp + c, Cp, true);
  }
  for (int64_t i = 0; i < n; ++i) {
    float* to = out + (low + i / G) * l.H * C + (k * G + i % G) * C;
    for (int64_t c = 0; c < C; ++c) to[c] = sums[i * Cp + c] / totals[i];
  }
}

}  // namespace

// x [B, D] is the embeddings, and then scratch. logits [B, V]. scratch: see `Step` in step.py.
extern "C" void decoder_step(float* x, const Layer* layers, const Head* head, const Span* spans,
                             const Place* places, float* logits, float* scratch, int64_t L,
                             int64_t S, int64_t B, int64_t D, int64_t most, int64_t ranks,
                             int32_t threads) {
  float *normed = scratch, *wide = normed + B * most, *narrow = wide + B * 2 * most;
  const int64_t heads_at_once = std::max<int64_t>(1, (B + 3) / 4);
#pragma omp parallel num_threads(threads)
  {
    const auto norm_rows = [&](const Norm& norm, const float* from, float* to) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < B; ++n) norm_of(norm, from + n * D, D, to + n * D);
    };
    const auto add_normed = [&](const Norm& norm, float* from) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < B; ++n) {
        norm_of(norm, from + n * D, D, from + n * D);
        for (int64_t i = 0; i < D; ++i) x[n * D + i] += from[n * D + i];
      }
    };
    for (int64_t i = 0; i < L; ++i) {
      const Layer& l = layers[i];
      const int64_t qs = (l.H + 2 * l.K) * l.C, width = l.H * l.C, inner = l.down.D;
      norm_rows(l.norm, x, normed);
      products_of(l.qkv, l.qkv_count, normed, D, B, narrow, wide, qs, false);
#pragma omp for schedule(static)
      for (int64_t n = 0; n < B; ++n) place_row(l, i, wide + n * qs, places[n], n);
#pragma omp for schedule(dynamic)
      for (int64_t task = 0; task < l.K * heads_at_once; ++task) {
        const int64_t low = task / l.K * 4;
        attend(l, i, task % l.K, low, std::min(B, low + 4), wide, qs, spans, S, places, normed);
      }
      if (l.post_norm.weight) {
        products_of(&l.o, 1, normed, width, B, narrow, wide, D, false);
        add_normed(l.post_norm, wide);
      } else {
        products_of(&l.o, 1, normed, width, B, narrow, x, D, true);
      }
      norm_rows(l.mlp_norm, x, normed);
      products_of(l.gate_up, l.gate_up_count, normed, D, B, narrow, wide, 2 * inner, false);
#pragma omp for schedule(static) collapse(2)
      for (int64_t n = 0; n < B; ++n)
        for (int64_t j = 0; j < (inner + 255) / 256; ++j) {
          const float* gate = wide + n * 2 * inner + j * 256;
          over(std::min<int64_t>(256, inner - j * 256), [&](int64_t c, int64_t count) {
            const F value = activated(load(gate + c, count), l.activation);
            store(normed + n * inner + j * 256 + c, value * load(gate + inner + c, count), count);
          });
        }
      if (l.post_mlp_norm.weight) {
        products_of(&l.down, 1, normed, inner, B, narrow, wide, D, false);
        add_normed(l.post_mlp_norm, wide);
      } else {
        products_of(&l.down, 1, normed, inner, B, narrow, x, D, true);
      }
    }
    norm_rows(head->norm, x, normed);
    const int64_t V = head->linear.E;
    products_of(&head->linear, 1, normed, D, B, narrow, logits, V, false);
    if (head->scale != 1 || head->softcap != 0) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < B; ++n)
        over(V, [&](int64_t j, int64_t count) {
          F y = load(logits + n * V + j, count) * head->scale;
          if (head->softcap != 0) y = head->softcap * tanh(y / head->softcap);
          store(logits + n * V + j, y, count);
        });
    }
  }
}
