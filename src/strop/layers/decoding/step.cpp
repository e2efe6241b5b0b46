// One new token for each of B rows through all blocks of a decoder, and its logits.
//
// Weights are read in the format they are stored in, once for all rows; sums are in float32 and do not
// depend on how many rows there are. Threads divide the outputs of each product among themselves.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "products.h"

using namespace lanes;

namespace {

constexpr int64_t BLOCK = 64;  // tokens of a block of the cache
constexpr int64_t ROWS = W == 16 ? 8 : 4;  // rows whose sums are in registers at once
constexpr int64_t OUTPUTS = 8;             // and outputs at most
constexpr int64_t STRIP = 48;              // outputs of which a thread has the weights near

// Outputs whose sums are in registers at once for n rows.
constexpr int64_t outputs_for(int64_t n) {
  if (W < 16) return n < 2 ? 8 : n < 3 ? 4 : 3;
  return n < 3 ? 8 : n < 5 ? 4 : 3;
}

constexpr int64_t AHEAD = 32 << 10;        // bytes that weights are fetched ahead of their use

// Fetches what lies so many bytes ahead into the second cache: the first holds the rows' own numbers, and
// has fewer places for lines on their way.
inline void fetch(const void* from, int64_t ahead) {
  __builtin_prefetch(static_cast<const char*>(from) + ahead, 0, 2);
}

constexpr float LOWEST = -std::numeric_limits<float>::infinity();

enum Kind : int64_t { FLOAT32, BFLOAT16, FLOAT16, BITS4, BITS5, BITS6, BITS8, PAIRS };
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

struct Floats {  // inputs and weights in float32
  typedef float In;
  static constexpr int64_t step = W;
  const float* row[OUTPUTS];
  static F input(const float* x, int64_t count) { return load(x, count); }
  F weight(int e, int64_t i, int64_t count) const { return load(row[e] + i, count); }
  static F add(F sum, F w, F x) { return sum + w * x; }
};

typedef uint16_t Halves __attribute__((vector_size(2 * W)));

inline Halves load16(const uint16_t* from, int64_t count) {
  Halves half{};
  if (count == W)
    std::memcpy(&half, from, sizeof half);
  else
    for (int64_t k = 0; k < count; ++k) half[k] = from[k];
  return half;
}

inline F widened(Halves half) {  // of bfloat16
  typedef uint32_t U __attribute__((vector_size(4 * W)));
  return (F)(__builtin_convertvector(half, U) << 16);
}

struct Bfloats {  // weights in bfloat16, inputs in float32
  typedef float In;
  static constexpr int64_t step = W;
  const uint16_t* row[OUTPUTS];
  static F input(const float* x, int64_t count) { return load(x, count); }
  F weight(int e, int64_t i, int64_t count) const { return widened(load16(row[e] + i, count)); }
  static F add(F sum, F w, F x) { return sum + w * x; }
};

#if defined(__AVX512BF16__)
struct Pairs {  // weights and inputs in bfloat16, two products added at once in float32
  typedef uint16_t In;
  static constexpr int64_t step = 2 * W;
  const uint16_t* row[OUTPUTS];
  static __m512i input(const uint16_t* x, int64_t count) {
    if (count == step) return _mm512_loadu_si512(x);
    return _mm512_maskz_loadu_epi16((uint32_t(1) << count) - 1, x);
  }
  __m512i weight(int e, int64_t i, int64_t count) const { return input(row[e] + i, count); }
  static F add(F sum, __m512i w, __m512i x) {
    return (F)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w, (__m512bh)x);
  }
};

void rounded(const float* x, int64_t n, uint16_t* to) {
  over(n, [&](int64_t i, int64_t count) {
    const __m256bh half = _mm512_cvtneps_pbh((__m512)load(x + i, count));
    std::memcpy(to + i, &half, 2 * count);
  });
}
#endif

// The sum of each of n vectors, added up in the same order whatever n is.
template <int n>
inline void totals(const F* lanes, float* to) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
  // 16 at a time: halves are added, and the sums of two share a vector.
#define FOLDED(a, b, low, step) (__builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, low + step))
  constexpr I low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
  constexpr I low4 = {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27};
  constexpr I low2 = {0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29};
  constexpr I low1 = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#pragma GCC unroll 4
  for (int first = 0; first < n; first += 16) {
    F s[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) s[i] = lanes[first + i < n ? first + i : n - 1];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) s[i] = FOLDED(s[2 * i], s[2 * i + 1], low8, 8);
#pragma GCC unroll 8
    for (int i = 0; i < 4; ++i) s[i] = FOLDED(s[2 * i], s[2 * i + 1], low4, 4);
#pragma GCC unroll 8
    for (int i = 0; i < 2; ++i) s[i] = FOLDED(s[2 * i], s[2 * i + 1], low2, 2);
    store(to + first, FOLDED(s[0], s[1], low1, 1), n - first < 16 ? n - first : 16);
  }
#undef FOLDED
#else
  for (int k = 0; k < n; ++k) {
    float sum = 0;
    for (int64_t i = 0; i < W; ++i) sum += lanes[k][i];
    to[k] = sum;
  }
#endif
}

inline float total(F lanes) {
  float sum;
  totals<1>(&lanes, &sum);
  return sum;
}

// sums [N, E] of rows x with the weights from `rows`, then with b and t over R.
template <int N, int E, class Weights>
inline void tile(const Weights& rows, const typename Weights::In* x, int64_t xs, int64_t D,
                 const float* const* b, const float* t, int64_t ts, int64_t R, float* sums) {
  F sum[N * E] = {};
  const auto add = [&](int64_t i, int64_t count) {
    decltype(rows.weight(0, 0, 0)) w[E];
#pragma GCC unroll 8
    for (int e = 0; e < E; ++e) {
      w[e] = rows.weight(e, i, count);
      fetch(rows.row[e] + i, AHEAD);
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const auto value = Weights::input(x + n * xs + i, count);
#pragma GCC unroll 8
      for (int e = 0; e < E; ++e) sum[n * E + e] = Weights::add(sum[n * E + e], w[e], value);
    }
  };
  int64_t at = 0;
  for (; at + Weights::step <= D; at += Weights::step) add(at, Weights::step);
  if (at < D) add(at, D - at);
  over(R, [&](int64_t i, int64_t count) {
#pragma GCC unroll 8
    for (int e = 0; e < E; ++e) {
      const F w = load(b[e] + i, count);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) sum[n * E + e] += w * load(t + n * ts + i, count);
    }
  });
  totals<N * E>(sum, sums);
}

template <class Weights>
void tile_of(int64_t n, const Weights& rows, const typename Weights::In* x, int64_t xs, int64_t D,
             const float* const* b, const float* t, int64_t ts, int64_t R, float* sums) {
#define TILE(N) return tile<N, outputs_for(N)>(rows, x, xs, D, b, t, ts, R, sums)
  switch (n) {
    case 8: TILE(ROWS < 8 ? 4 : 8);
    case 7: TILE(ROWS < 8 ? 4 : 7);
    case 6: TILE(ROWS < 8 ? 4 : 6);
    case 5: TILE(ROWS < 8 ? 4 : 5);
    case 4: TILE(4);
    case 3: TILE(3);
    case 2: TILE(2);
    default: TILE(1);
  }
#undef TILE
}

struct Scales {  // of groups, with the divisions done once
  const Linear& l;
  const uint8_t* codes;
  int64_t per_row, shift;

  explicit Scales(const Linear& of) : l(of), per_row(of.D / of.group), shift(-1) {
    codes = static_cast<const uint8_t*>(l.scale_codes);
    if (l.scale_table && (l.scale_group & (l.scale_group - 1)) == 0)
      shift = __builtin_ctzll(l.scale_group);
  }
  float operator[](int64_t j) const {
    if (!l.scale_table) return static_cast<const float*>(l.scale_codes)[j];
    const float factor = l.factors[shift < 0 ? j / l.scale_group : j >> shift];
    if (l.offset == 0) return l.scale_table[codes[j]] * factor;
    const volatile float product = l.scale_table[codes[j]] * factor;  // rounded before the sum
    return product + l.offset;
  }
};

template <int bits>
void expand_bits(const Linear& l, int64_t e, float* to) {
  const int64_t half = (l.E * l.D + 1) / 2;
  const uint8_t* low = static_cast<const uint8_t*>(l.weight);
  const uint8_t* high = low + half;
  const Scales scales(l);
  for (int64_t first = 0, g = e * scales.per_row; first < l.D; first += l.group, ++g) {
    const int64_t at = e * l.D + first, n = std::min(l.group, l.D - first);
    const float scale = scales[g];
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

#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__)
constexpr bool FAST4 = true;

inline I numbers(const uint8_t* bytes) {
#if defined(__AVX512F__)
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
#else
  return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#endif
}

// Writes a row with the even and the odd ones of each 2 W weights apart, as bytes have them.
void expand4(const Linear& l, int64_t e, float* to) {
  const Table<16> levels(l.table);
  const Scales scales(l);
  const uint8_t* codes = static_cast<const uint8_t*>(l.weight) + e * l.D / 2;
  for (int64_t first = 0, g = e * scales.per_row; first < l.D; first += l.group, ++g) {
    const F scale = all(scales[g]);
    fetch(codes + first / 2, AHEAD);
    for (int64_t i = first; i < first + l.group; i += 2 * W) {
      const I code = numbers(codes + i / 2);
      store(to + i, levels[code >> 4] * scale);
      store(to + i + W, levels[W == 16 ? code : code & 15] * scale);
    }
  }
}

#else
constexpr bool FAST4 = false;
void expand4(const Linear&, int64_t, float*) {}
#endif

inline bool is_fast4(const Linear& l) {
  return FAST4 && l.kind == BITS4 && l.group % (2 * W) == 0 && l.D % l.group == 0;
}

// Writes row e of a weight as floats.
void expand(const Linear& l, int64_t e, float* to) {
  switch (l.kind) {
    case FLOAT16: {
      const uint16_t* row = static_cast<const uint16_t*>(l.weight) + e * l.D;
      for (int64_t i = 0; i < l.D; ++i) to[i] = widened(row[i]);
      return;
    }
    case BITS4: return is_fast4(l) ? expand4(l, e, to) : expand_bits<4>(l, e, to);
    case BITS5: return expand_bits<5>(l, e, to);
    case BITS6: return expand_bits<6>(l, e, to);
    default: return expand_bits<8>(l, e, to);
  }
}

constexpr int64_t TRIES = 50000;  // some tens of microseconds, more than a phase's threads differ by

// What the threads of a team share. Between two waits they share out tasks of several loops.
struct Team {
  static constexpr int64_t LOOPS = 8;
  std::vector<std::atomic<uint64_t>> taken;  // of each loop and thread: tasks from the front, from the back
  std::atomic<int64_t> phase{0}, arrived{0};
  std::mutex mutex;
  std::condition_variable changed;

  explicit Team(int64_t threads) : taken(LOOPS * threads) {}
};

// One thread of a team. OpenMP's own loops let a thread that waits spin for long: where another program
// has the core that its partner needs, every wait would cost a time slice.
class Member {
  Team& team;
  int64_t loop = 0;
  const int64_t threads = omp_get_num_threads(), self = omp_get_thread_num();

 public:
  explicit Member(Team& of) : team(of) {}

  // Each thread goes through tasks that follow one another, so that what it fetches ahead of a task is
  // what it needs next; then it takes from the end of what is left to others.
  template <class Body>
  void each(int64_t tasks, Body body) {
    std::atomic<uint64_t>* const taken = &team.taken[loop++ * threads];
    for (int64_t k = 0; k < threads; ++k) {
      const int64_t owner = (self + k) % threads;
      const int64_t first = owner * tasks / threads, last = (owner + 1) * tasks / threads;
      uint64_t now = taken[owner].load(std::memory_order_relaxed);
      for (;;) {
        const int64_t front = now >> 32, back = now & 0xffffffff;
        if (front + back >= last - first) break;
        const uint64_t next = now + (k == 0 ? uint64_t(1) << 32 : 1);
        if (!taken[owner].compare_exchange_weak(now, next, std::memory_order_relaxed)) continue;
        body(k == 0 ? first + front : last - 1 - back);
        now = taken[owner].load(std::memory_order_relaxed);
      }
    }
  }

  void wait() {
    const int64_t phase = team.phase.load(std::memory_order_relaxed);
    if (team.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      for (int64_t i = 0; i < loop * threads; ++i) team.taken[i].store(0, std::memory_order_relaxed);
      team.arrived.store(0, std::memory_order_relaxed);
      {
        const std::lock_guard<std::mutex> lock(team.mutex);
        team.phase.store(phase + 1, std::memory_order_release);
      }
      team.changed.notify_all();
    } else {
      const auto passed = [&] { return team.phase.load(std::memory_order_acquire) != phase; };
      for (int64_t tries = 0; tries < TRIES && !passed(); ++tries) {
      }
      if (!passed()) {
        std::unique_lock<std::mutex> lock(team.mutex);
        team.changed.wait(lock, passed);
      }
    }
    loop = 0;
  }
};

// What layers that share an input read: x [N, D], and as the products take it, once a thread.
struct Inputs {
  const float* x;
  int64_t xs, N;
  const float* t;  // [N, ranks] scale * x A^T of their adapters
  int64_t ts;
  const uint16_t* halves;  // x in bfloat16, or null
  const float* split;      // x with the even and odd ones of each 2 W apart, or null
};

void finish(const Linear& l, int64_t e, int64_t rows, int64_t outputs, const float* sums,
            int64_t stride, float* out, int64_t os, bool add) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < outputs; ++k) {
      float y = sums[r * stride + k];
      if (l.factor) y *= l.factor[e + k];
      if (l.bias) y += l.bias[e + k];
      float& to = out[r * os + k];
      to = add ? to + y : y;
    }
}

// The outputs from `first` to before `last`; out is where the first of the first row goes.
template <class Weights, class Row>
void strip(const Linear& l, int64_t first, int64_t last, const Inputs& in,
           const typename Weights::In* x, float* out, int64_t os, bool add, Row row) {
  for (int64_t n = 0; n < in.N; n += ROWS) {
    const int64_t rows = std::min(ROWS, in.N - n), width = outputs_for(rows);
    for (int64_t e = first; e < last; e += width) {
      Weights weights;
      const float* b[OUTPUTS];
      for (int64_t k = 0; k < width; ++k) {
        const int64_t at = std::min(e + k, last - 1);
        weights.row[k] = row(at);
        b[k] = l.R ? l.b + at * l.R : nullptr;
      }
      float sums[ROWS * OUTPUTS];
      tile_of(rows, weights, x + n * in.xs, in.xs, l.D, b, in.t + n * in.ts, in.ts, l.R, sums);
      finish(l, e, rows, std::min(width, last - e), sums, width, out + n * os + e - first, os, add);
    }
  }
}

#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__)
// One row with weights of 4 bits, which are looked up and never written.
void one4(const Linear& l, int64_t first, int64_t last, const Inputs& in, float* out, bool add) {
  constexpr int E = 4;
  const Table<16> levels(l.table);
  const Scales scales(l);
  for (int64_t e = first; e < last; e += E) {
    F sum[E] = {};
    int64_t group[E];
    const uint8_t* codes[E];
    for (int k = 0; k < E; ++k) {
      const int64_t row = std::min(e + k, last - 1);
      group[k] = row * scales.per_row;
      codes[k] = static_cast<const uint8_t*>(l.weight) + row * l.D / 2;
    }
    for (int64_t at = 0, g = 0; at < l.D; at += l.group, ++g) {
      F even[E] = {}, odd[E] = {};
      for (int k = 0; k < E; ++k) fetch(codes[k] + at / 2, AHEAD);
      for (int64_t i = at; i < at + l.group; i += 2 * W) {
        const F x0 = load(in.split + i), x1 = load(in.split + i + W);
#pragma GCC unroll 4
        for (int k = 0; k < E; ++k) {
          const I code = numbers(codes[k] + i / 2);
          even[k] += levels[code >> 4] * x0;
          odd[k] += levels[W == 16 ? code : code & 15] * x1;
        }
      }
#pragma GCC unroll 4
      for (int k = 0; k < E; ++k) sum[k] += (even[k] + odd[k]) * scales[group[k] + g];
    }
    for (int k = 0; k < E; ++k)
      over(l.R, [&](int64_t i, int64_t count) {
        sum[k] += load(l.b + std::min(e + k, last - 1) * l.R + i, count) * load(in.t + i, count);
      });
    float sums[E];
    totals<E>(sum, sums);
    finish(l, e, 1, std::min<int64_t>(E, last - e), sums, E, out + e - first, 0, add);
  }
}
#else
void one4(const Linear&, int64_t, int64_t, const Inputs&, float*, bool) {}
#endif

thread_local std::vector<float> expanded, split, normal, gates;
thread_local std::vector<uint16_t> halves;

inline float* room(std::vector<float>& buffer, int64_t count) {
  if (int64_t(buffer.size()) < count) buffer.resize(count);
  return buffer.data();
}

void outputs_of(const Linear& l, int64_t first, int64_t last, const Inputs& in, float* out,
                int64_t os, bool add) {
#if defined(__AVX512BF16__)
  if (l.kind == PAIRS) {
    const uint16_t* w = static_cast<const uint16_t*>(l.weight);
    return strip<Pairs>(l, first, last, in, in.halves, out, os, add,
                        [&](int64_t e) { return w + e * l.D; });
  }
#endif
  if (l.kind == FLOAT32) {
    const float* w = static_cast<const float*>(l.weight);
    return strip<Floats>(l, first, last, in, in.x, out, os, add,
                         [&](int64_t e) { return w + e * l.D; });
  }
  if (l.kind == BFLOAT16 || l.kind == PAIRS) {
    const uint16_t* w = static_cast<const uint16_t*>(l.weight);
    return strip<Bfloats>(l, first, last, in, in.x, out, os, add,
                          [&](int64_t e) { return w + e * l.D; });
  }
  if (in.N == 1 && is_fast4(l)) return one4(l, first, last, in, out, add);
  const float* x = is_fast4(l) ? in.split : in.x;
  const int64_t width = in.N > ROWS ? STRIP : outputs_for(in.N);  // few rows: near the processor
  float* w = room(expanded, STRIP * l.D);
  for (int64_t e = first; e < last; e += width) {
    const int64_t end = std::min(last, e + width);
    for (int64_t k = e; k < end; ++k) expand(l, k, w + (k - e) * l.D);
    strip<Floats>(l, e, end, in, x, out + e - first, os, add,
                  [&](int64_t k) { return w + (k - e) * l.D; });
  }
}

// Even and odd ones of each 2 W of n numbers apart, as bytes of two codes have them.
const float* apart(const float* x, int64_t n) {
  float* to = room(split, n);
  for (int64_t i = 0; i < n; i += 2 * W)
    for (int64_t k = 0; k < W; ++k) {
      to[i + k] = x[i + 2 * k];
      to[i + W + k] = x[i + 2 * k + 1];
    }
  return to;
}

// Prepares x [N, D] for some layers in each thread, and computes their adapters' inner part.
Inputs inputs_of(Member& member, const Linear* layers, int64_t count, const float* x, int64_t xs,
                 int64_t N, float* narrow) {
  Inputs in{x, xs, N, narrow, 0, nullptr, nullptr};
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    in.ts += layers[i].R;
#if defined(__AVX512BF16__)
    if (layers[i].kind == PAIRS && !in.halves) {
      if (int64_t(halves.size()) < N * xs) halves.resize(N * xs);
      rounded(x, N * xs, halves.data());
      in.halves = halves.data();
    }
#endif
    if (is_fast4(layers[i]) && !in.split) in.split = apart(x, N * xs);
  }
  for (int64_t i = 0; in.ts && i < count; ++i) {
    const Linear& l = layers[i];
    const Linear a{l.a, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                   FLOAT32, l.R, l.D, 0, 0, 0, 1, 0};
    member.each((l.R + OUTPUTS - 1) / OUTPUTS, [&](int64_t task) {
      const int64_t first = task * OUTPUTS, last = std::min(l.R, first + OUTPUTS);
      outputs_of(a, first, last, in, narrow + at + first, in.ts, false);
      for (int64_t n = 0; n < N; ++n)
        for (int64_t k = first; k < last; ++k) narrow[n * in.ts + at + k] *= l.scale;
    });
    at += l.R;
  }
  if (in.ts) member.wait();
  return in;
}

inline Inputs beside(Inputs in, int64_t ranks) {  // of the layer after those of so many ranks
  in.t += ranks;
  return in;
}

// The outputs of layers that share an input, side by side.
void products_of(Member& member, const Linear* layers, int64_t count, const Inputs& in, float* out,
                 int64_t os, bool add) {
  int64_t ranks = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Linear& l = layers[i];
    member.each((l.E + STRIP - 1) / STRIP, [&](int64_t task) {
      const int64_t first = task * STRIP, last = std::min(l.E, first + STRIP);
      outputs_of(l, first, last, beside(in, ranks), out + first, os, add);
    });
    ranks += l.R;
    out += l.E;
  }
  member.wait();
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

// Norms and rotation of key head k and its queries, and the new key and value into the cache, of row n.
void place_row(const Layer& l, int64_t layer, int64_t k, float* qkv, const Place& place, int64_t n) {
  const int64_t G = l.H / l.K;
  const auto turn = [&](float* head, const Norm& norm) {
    if (norm.weight) norm_of(norm, head, l.C, head);
    rotate(head, l.cos + n * l.P, l.sin + n * l.P, l.P);
  };
  for (int64_t h = k * G; h < (k + 1) * G; ++h) turn(qkv + h * l.C, l.q_norm);
  float* head = qkv + (l.H + k) * l.C;
  turn(head, l.k_norm);
  float* keys = keys_at(place.block, l, layer, k) + place.column;
  for (int64_t c = 0; c < l.C; ++c) keys[c * BLOCK] = head[c];
  std::memcpy(values_at(place.block, l, layer, k) + place.column * padded(l.C),
              qkv + (l.H + l.K + k) * l.C, l.C * sizeof(float));
}

thread_local std::vector<float> attending;

// Attention of the rows from low to before high under key head k: out [B, H C].
void attend(const Layer& l, int64_t layer, int64_t k, int64_t low, int64_t high, float* qkv,
            int64_t qs, const Span* spans, int64_t S, const Place* places, float* out) {
  const int64_t G = l.H / l.K, n = (high - low) * G, C = l.C, Cp = padded(C);
  attending.resize(n * (C + Cp + BLOCK + 2));
  float *q = attending.data(), *sums = q + n * C, *scores = sums + n * Cp, *tops = scores + n * BLOCK,
        *totals = tops + n;
  for (int64_t r = low; r < high; ++r) place_row(l, layer, k, qkv + r * qs, places[r], r);
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
    if (s + 1 < S && spans[s + 1].low < high && spans[s + 1].high > low)
      for (int64_t c = 0; c < Cp * BLOCK; c += 16) {  // what comes next
        fetch(keys_at(spans[s + 1].block, l, layer, k) + c, 0);
        fetch(values_at(spans[s + 1].block, l, layer, k) + c, 0);
      }
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

// activation(gate) * up of the columns from `first` to before `last`: out [N, F].
void gated(const Layer& l, int64_t first, int64_t last, const Inputs& in, float* out) {
  const int64_t inner = l.down.D, ranks = l.gate_up_count == 2 ? l.gate_up[0].R : 0;
  const int64_t offset = l.gate_up_count == 2 ? 0 : inner;  // both halves of one layer
  float *gate = room(gates, in.N * 2 * STRIP), *up = gate + in.N * STRIP;
  outputs_of(l.gate_up[0], first, last, in, gate, STRIP, false);
  outputs_of(l.gate_up[l.gate_up_count - 1], offset + first, offset + last, beside(in, ranks), up,
             STRIP, false);
  for (int64_t n = 0; n < in.N; ++n)
    over(last - first, [&](int64_t c, int64_t count) {
      const F value = activated(load(gate + n * STRIP + c, count), l.activation);
      store(out + n * inner + first + c, value * load(up + n * STRIP + c, count), count);
    });
}

}  // namespace

// x [B, D] is the embeddings, and then scratch. logits [B, V]. scratch: see `Step` in step.py.
extern "C" void decoder_step(float* x, const Layer* layers, const Head* head, const Span* spans,
                             const Place* places, float* logits, float* scratch, int64_t L,
                             int64_t S, int64_t B, int64_t D, int64_t most, int64_t ranks,
                             int32_t threads) {
  float *inner = scratch, *wide = inner + B * most, *narrow = wide + B * most;
  const int64_t heads_at_once = std::max<int64_t>(1, (B + 3) / 4);
  Team team(threads);
#pragma omp parallel num_threads(threads)
  {
    Member member(team);
    float* normed = room(normal, B * D);  // of each thread, which spares a barrier
    const auto norm_rows = [&](const Norm& norm) {
      for (int64_t n = 0; n < B; ++n) norm_of(norm, x + n * D, D, normed + n * D);
    };
    const auto add_to_x = [&](const Linear& linear, const Norm& norm) {
      const Inputs in = inputs_of(member, &linear, 1, inner, linear.D, B, narrow);
      if (!norm.weight) return products_of(member, &linear, 1, in, x, D, true);
      products_of(member, &linear, 1, in, wide, D, false);
      member.each(B, [&](int64_t n) {
        norm_of(norm, wide + n * D, D, wide + n * D);
        for (int64_t i = 0; i < D; ++i) x[n * D + i] += wide[n * D + i];
      });
      member.wait();
    };
    for (int64_t i = 0; i < L; ++i) {
      const Layer& l = layers[i];
      const int64_t qs = (l.H + 2 * l.K) * l.C;
      norm_rows(l.norm);
      products_of(member, l.qkv, l.qkv_count, inputs_of(member, l.qkv, l.qkv_count, normed, D, B, narrow), wide, qs,
                  false);
      member.each(l.K * heads_at_once, [&](int64_t task) {
        const int64_t low = task / l.K * 4;
        attend(l, i, task % l.K, low, std::min(B, low + 4), wide, qs, spans, S, places, inner);
      });
      member.wait();
      add_to_x(l.o, l.post_norm);
      norm_rows(l.mlp_norm);
      const Inputs in = inputs_of(member, l.gate_up, l.gate_up_count, normed, D, B, narrow);
      member.each((l.down.D + STRIP - 1) / STRIP, [&](int64_t task) {
        gated(l, task * STRIP, std::min(l.down.D, task * STRIP + STRIP), in, inner);
      });
      member.wait();
      add_to_x(l.down, l.post_mlp_norm);
    }
    norm_rows(head->norm);
    const int64_t V = head->linear.E;
    products_of(member, &head->linear, 1, inputs_of(member, &head->linear, 1, normed, D, B, narrow), logits, V, false);
    if (head->scale != 1 || head->softcap != 0) {
      member.each(B, [&](int64_t n) {
        over(V, [&](int64_t j, int64_t count) {
          F y = load(logits + n * V + j, count) * head->scale;
          if (head->softcap != 0) y = head->softcap * tanh(y / head->softcap);
          store(logits + n * V + j, y, count);
        });
      });
    }
  }
}
