// Attention among runs: a tile of queries against the keys of its path, nothing of size [N, N].
//
// One task is one tree of runs under one key head; it packs the tree's keys and values once. Every
// product is the same kernel, MR rows by NV vectors held in registers, and stops at the diagonal
// within MR rows. Softmax is the online one of flash attention 2 (Dao 2023, arXiv:2307.08691).
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "bfloat16.h"
#include "products.h"

using namespace lanes;

namespace {

constexpr int64_t PANEL = NV * W;  // keys that stand side by side in a packed panel
constexpr int64_t TILE = 8 * MR;   // queries at once
constexpr int64_t BLOCK_KEYS = 4 * PANEL;
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What products are made of: floats, or pairs of bfloat16 along the sum where those are faster.
template <class T>
constexpr bool PAIRED = MULTIPLIES_PAIRS && std::is_same<T, Bfloat16>::value;
template <class T>
using Cell = typename std::conditional<PAIRED<T>, Pair, float>::type;
template <class T>
constexpr int64_t DEPTH = PAIRED<T> ? 2 : 1;
template <class T>
int64_t cells(int64_t n) {
  return (n + DEPTH<T> - 1) / DEPTH<T>;
}
static_assert(MR % 2 == 0, "no pair of rows is parted");

struct Run {
  int64_t start, length, depth, parent;
};

struct Scores {
  float scale, softcap;
};

// What the queries of a tile see of one run's keys: row i sees those from first(i) to last(i).
struct Keys {
  int64_t panels;          // where the run's first packed panel stands
  int64_t row;             // and its first packed row
  int64_t begin, end;      // keys of the run in this block, begin being a multiple of PANEL
  int64_t top, window;     // top: the key, counted within the run, that is the first query's own
  int64_t last(int64_t i) const { return std::min(end - 1, top + i); }
  int64_t first(int64_t i) const {
    return window > 0 ? std::max(begin, top + i - window + 1) : begin;
  }
};

inline F capped(F x, float scale, float softcap) {
  x *= scale;
  return softcap == 0 ? x : softcap * tanh(x / softcap);
}

// The packed keys and values of one tree, and a tile's own memory; grows and is used again.
struct Memory {
  std::vector<float> flat;
  float* at = nullptr;
  void reserve(int64_t floats) {
    if (int64_t(flat.size()) < floats + W) flat.resize(floats + W);
    const auto address = reinterpret_cast<uintptr_t>(flat.data());
    at = flat.data() + (up(int64_t(address), 64) - int64_t(address)) / 4;
  }
  template <class Cell = float>
  Cell* take(int64_t count) {
    float* taken = at;
    at += up(count, W);
    return reinterpret_cast<Cell*>(taken);
  }
};

struct Tree {
  const Run* runs;
  int64_t first, last;  // runs of the tree
  int64_t row(int64_t r) const { return runs[r].start - runs[first].start; }
  int64_t rows() const { return row(last - 1) + runs[last - 1].length; }
  double cost() const {
    double total = 0;
    for (int64_t r = first; r < last; ++r)
      total += double(runs[r].length) * (runs[r].depth + runs[r].length / 2 + 32);
    return total;
  }
  int64_t panel_keys() const {
    int64_t total = 0;
    for (int64_t r = first; r < last; ++r) total += up(runs[r].length, PANEL);
    return total;
  }
};

// A row of C numbers in another format.
template <class From, class To>
inline void copy_row(const From* from, int64_t C, To* to) {
  over(C, [&](int64_t c, int64_t count) { store(to + c, load(from + c, count), count); });
}

// Rows [n, C] with stride to rows of cells along C [n, Cc], zero beyond C.
template <class T>
void pack_rows(const T* from, int64_t stride, int64_t n, int64_t C, int64_t Cc, Cell<T>* to) {
  for (int64_t i = 0; i < n; ++i) {
    std::fill(to + i * Cc, to + (i + 1) * Cc, Cell<T>{});
    if constexpr (PAIRED<T>)
      std::memcpy(to + i * Cc, from + i * stride, C * sizeof(T));
    else
      copy_row(from + i * stride, C, to + i * Cc);
  }
}

// Rows [n, C] to panels [cells along C, PANEL] of PANEL rows each, zero beyond n.
template <class T>
void pack_panels(const T* from, int64_t stride, int64_t n, int64_t C, Cell<T>* to) {
  const int64_t Cc = cells<T>(C);
  for (int64_t start = 0; start < n; start += PANEL, to += Cc * PANEL) {
    const int64_t count = std::min(PANEL, n - start);
    if (count < PANEL) std::fill(to, to + Cc * PANEL, Cell<T>{});
    for (int64_t j = 0; j < count; ++j) {
      const T* row = from + (start + j) * stride;
      if constexpr (PAIRED<T>)
        for (int64_t c = 0; c < C; c += 2)
          pair_rows(row + c, c + 1 < C ? row + c + 1 : nullptr, 1, to + c / 2 * PANEL + j);
      else
        over(C, [&](int64_t c, int64_t some) {
          const F numbers = load(row + c, some);
          for (int64_t i = 0; i < some; ++i) to[(c + i) * PANEL + j] = numbers[i];
        });
    }
  }
}

// Rows [n, C] to cells along n [cells, Cp], zero beyond C and n.
template <class T>
void pack_columns(const T* from, int64_t stride, int64_t n, int64_t C, int64_t Cp, Cell<T>* to) {
  if constexpr (PAIRED<T>)
    for (int64_t i = 0; i < n; i += 2, to += Cp) {
      const T* row = from + i * stride;
      pair_rows(row, i + 1 < n ? row + stride : nullptr, C, to);
      std::fill(to + C, to + Cp, Cell<T>{});
    }
  else
    pack_rows(from, stride, n, C, Cp, to);
}

// Calls body(Keys) for each block of keys that some of the n queries from `query` of run r sees.
template <class Body>
void over_keys(const Tree& tree, int64_t r, int64_t query, int64_t n, int64_t window, Body body) {
  int64_t path[64], depth = 0;
  std::vector<int64_t> deep;
  int64_t* runs = path;
  for (int64_t a = r; a >= 0; a = tree.runs[a].parent) ++depth;
  if (depth > 64) deep.resize(depth), runs = deep.data();
  int64_t at = depth;
  for (int64_t a = r; a >= 0; a = tree.runs[a].parent) runs[--at] = a;
  int64_t panels = 0, next = tree.first;
  for (int64_t p = 0; p < depth; ++p) {
    const int64_t a = runs[p];
    for (; next < a; ++next) panels += up(tree.runs[next].length, PANEL);
    const int64_t top = tree.runs[r].depth + query - tree.runs[a].depth;
    const int64_t end = std::min(tree.runs[a].length, top + n);
    const int64_t low = window > 0 ? std::max<int64_t>(0, top - window + 1) : 0;
    for (int64_t begin = low / PANEL * PANEL; begin < end; begin += BLOCK_KEYS)
      body(Keys{panels, tree.row(a), begin, std::min(end, begin + BLOCK_KEYS), top, window});
  }
}

// scores [n, BLOCK_KEYS] = rows [n, C] times the panels of the block, as far as each MR rows see.
template <class T>
void scores_of(const Cell<T>* rows, int64_t n, int64_t C, int64_t stride, const Cell<T>* panels,
               const Keys& keys, float* scores) {
  const int64_t Cc = cells<T>(C);
  for (int64_t begin = keys.begin; begin < keys.end; begin += PANEL)
    for (int64_t i = 0; i < n; i += MR) {
      const int64_t count = std::min(MR, n - i), seen = keys.last(i + count - 1) + 1 - begin;
      if (seen > 0)
        product(count, std::min(seen, PANEL), Cc, rows + i * stride, stride, 1,
                panels + (keys.panels + begin) * Cc, PANEL, scores + i * BLOCK_KEYS + begin - keys.begin,
                BLOCK_KEYS, false);
    }
}

// Keys of a block up to which the rows of a group of MR are multiplied.
inline int64_t multiplied(int64_t i, int64_t n, const Keys& keys) {
  const int64_t below = keys.last(std::min(i / MR * MR + MR, n) - 1);
  return std::min(keys.end, below + MR) - keys.begin;
}

// Sets what row i does not see to zero, as far as MR rows by MR keys at the diagonal are multiplied.
void hide(float* row, int64_t i, int64_t n, const Keys& keys) {
  const int64_t until = multiplied(i, n, keys);
  if (until <= 0) return;
  const int64_t first = keys.first(i) - keys.begin, last = keys.last(i) - keys.begin;
  if (first > 0) std::fill(row, row + std::min(first, until), 0.0f);
  if (last + 1 < until) std::fill(row + std::max<int64_t>(last + 1, 0), row + until, 0.0f);
}

// Weights [n, BLOCK_KEYS] as cells along the keys: where they lie, or rounded into `memory`.
template <class T>
const Cell<T>* along_keys(const float* weights, int64_t n, const Keys& keys, Cell<T>* memory) {
  if constexpr (PAIRED<T>) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t until = multiplied(i, n, keys);
      if (until <= 0) continue;
      T* row = reinterpret_cast<T*>(memory + i * BLOCK_KEYS / 2);
      copy_row(weights + i * BLOCK_KEYS, until, row);
      if (until % 2) row[until] = T{};
    }
    return memory;
  } else {
    return weights;
  }
}

// Weights as cells along the queries [cells, BLOCK_KEYS], from those along the keys.
template <class T>
const Cell<T>* along_queries(const Cell<T>* weights, int64_t n, const Keys& keys, Cell<T>* memory) {
  if constexpr (PAIRED<T>) {
    for (int64_t i = 0; i < n; i += 2) {
      const T* row = reinterpret_cast<const T*>(weights + i * BLOCK_KEYS / 2);
      pair_rows(row, i + 1 < n ? row + BLOCK_KEYS : nullptr,
                std::max<int64_t>(0, multiplied(i, n, keys)), memory + i / 2 * BLOCK_KEYS);
    }
    return memory;
  } else {
    return weights;
  }
}

// sums [n, Cp] += weights [n, keys] rows [keys, Cp].
template <class T>
void add_rows(const Cell<T>* weights, int64_t n, int64_t Cp, const Cell<T>* rows, const Keys& keys,
              float* sums) {
  constexpr int64_t stride = BLOCK_KEYS / DEPTH<T>;
  for (int64_t c = 0; c < Cp; c += PANEL)
    for (int64_t i = 0; i < n; i += MR) {
      const int64_t count = std::min(MR, n - i), seen = keys.last(i + count - 1) + 1 - keys.begin;
      if (seen > 0)
        product(count, std::min(PANEL, Cp - c), cells<T>(seen), weights + i * stride, stride, 1,
                rows + (keys.panels + keys.begin) / DEPTH<T> * Cp + c, Cp, sums + i * Cp + c, Cp, true);
    }
}

// sums [keys, Cp] += weights [n, keys]^T rows [n, Cp]; a key is seen from its own query on.
template <class T>
void add_transposed(const Cell<T>* weights, int64_t n, int64_t Cp, const Cell<T>* rows,
                    const Keys& keys, float* sums) {
  for (int64_t c = 0; c < Cp; c += PANEL)
    for (int64_t j = keys.begin; j < keys.end; j += MR) {
      const int64_t from = std::max<int64_t>(0, (j - keys.top) / MR * MR), cell = from / DEPTH<T>;
      if (from < n)
        product(std::min(MR, keys.end - j), std::min(PANEL, Cp - c), cells<T>(n - from),
                weights + cell * BLOCK_KEYS + j - keys.begin, 1, BLOCK_KEYS, rows + cell * Cp + c, Cp,
                sums + (keys.row + j) * Cp + c, Cp, true);
    }
}

// Turns a block of products into exp(x - top), and updates each row's top, total and output.
void weigh(float* scores, int64_t n, const Keys& keys, const Scores& s, int64_t Cp, float* tops,
           double* totals, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    float* row = scores + i * BLOCK_KEYS;
    const int64_t first = keys.first(i), length = keys.last(i) - first + 1;
    if (length > 0) {
      float* own = row + first - keys.begin;
      F most = all(LOWEST);
      over(length, [&](int64_t j, int64_t count) {
        const F x = capped(load(own + j, count), s.scale, s.softcap);
        store(own + j, x, count);
        most = larger(count == W ? x : load(own + j, count, LOWEST), most);
      });
      const float top = std::max(tops[i], largest(most));
      F some{};  // of at most BLOCK_KEYS numbers
      over(length, [&](int64_t j, int64_t count) {
        const F e = exp(load(own + j, count, LOWEST) - top);
        store(own + j, e, count);
        some += e;
      });
      if (top > tops[i]) {
        const float shrink = std::exp(tops[i] - top);
        totals[i] *= shrink;
        for (int64_t c = 0; c < Cp; ++c) out[i * Cp + c] *= shrink;
        tops[i] = top;
      }
      totals[i] += sum(some);
    }
    hide(row, i, n, keys);
  }
}

// Turns products into weights, and <dout, v> into the gradients of the products.
void slopes_of(float* scores, float* slopes, int64_t n, const Keys& keys, const Scores& s,
               const float* lse, const float* delta) {
  for (int64_t i = 0; i < n; ++i) {
    float *row = scores + i * BLOCK_KEYS, *down = slopes + i * BLOCK_KEYS;
    const int64_t first = keys.first(i), length = keys.last(i) - first + 1;
    const float own_lse = lse[i], own_delta = delta[i];
    over(std::max<int64_t>(0, length), [&](int64_t k, int64_t count) {
      const int64_t j = first - keys.begin + k;
      const F x = capped(load(row + j, count), s.scale, s.softcap);
      const F weight = exp(x - own_lse);
      F slope = weight * (load(down + j, count) - own_delta) * s.scale;
      if (s.softcap != 0) slope *= 1.0f - (x / s.softcap) * (x / s.softcap);
      store(row + j, weight, count);
      store(down + j, slope, count);
    });
    hide(row, i, n, keys);
    hide(down, i, n, keys);
  }
}

std::vector<Tree> trees_of(const int64_t* runs, int64_t R) {
  std::vector<Tree> trees;
  const Run* all = reinterpret_cast<const Run*>(runs);
  for (int64_t r = 0; r < R; ++r) {
    if (all[r].parent < 0) trees.push_back({all, r, r});
    trees.back().last = r + 1;
  }
  std::stable_sort(trees.begin(), trees.end(),
                   [](const Tree& a, const Tree& b) { return a.cost() > b.cost(); });
  return trees;
}

thread_local Memory memory;

template <class T>
void forward(const T* q, const T* k, const T* v, T* out, float* lse, const int64_t* runs, int64_t R,
             int64_t N, int64_t H, int64_t K, int64_t C, int64_t q_stride, int64_t k_stride,
             int64_t v_stride, int64_t window, float scale, float softcap, int32_t threads) {
  const Scores s{scale, softcap};
  const std::vector<Tree> trees = trees_of(runs, R);
  const int64_t Cp = up(C, W), Cc = cells<T>(Cp), group = H / K, tasks = int64_t(trees.size()) * K;
  // A head by itself where there are too few key heads to keep every thread busy.
  const int64_t part = tasks < 8 * threads ? 1 : group, parts = group / part;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t task = 0; task < tasks * parts; ++task) {
    const Tree& tree = trees[task / parts / K];
    const int64_t g = task / parts % K;
    const int64_t keys_held = tree.panel_keys();
    memory.reserve(keys_held * (Cc + Cp) + TILE * (Cc + Cp + 2 * BLOCK_KEYS) + 8 * W);
    auto *panels = memory.take<Cell<T>>(keys_held * Cc), *values = memory.take<Cell<T>>(keys_held * Cp);
    auto* queries = memory.take<Cell<T>>(TILE * Cc);
    auto* rounded = memory.take<Cell<T>>(TILE * BLOCK_KEYS);
    float *sums = memory.take(TILE * Cp), *scores = memory.take(TILE * BLOCK_KEYS);
    int64_t at_key = 0;
    for (int64_t r = tree.first; r < tree.last; at_key += up(tree.runs[r++].length, PANEL)) {
      const int64_t start = tree.runs[r].start, length = tree.runs[r].length;
      pack_panels(k + start * k_stride + g * C, k_stride, length, C, panels + at_key * cells<T>(C));
      pack_columns(v + start * v_stride + g * C, v_stride, length, C, Cp, values + at_key / DEPTH<T> * Cp);
    }
    const int64_t from = g * group + task % parts * part;
    for (int64_t h = from; h < from + part; ++h)
      for (int64_t r = tree.first; r < tree.last; ++r)
        for (int64_t i = 0; i < tree.runs[r].length; i += TILE) {
          const int64_t n = std::min(TILE, tree.runs[r].length - i), at = tree.runs[r].start + i;
          float tops[TILE];
          double totals[TILE] = {};
          std::fill(tops, tops + n, LOWEST);
          std::fill(sums, sums + n * Cp, 0.0f);
          pack_rows(q + at * q_stride + h * C, q_stride, n, C, Cc, queries);
          over_keys(tree, r, i, n, window, [&](const Keys& keys) {
            scores_of<T>(queries, n, C, Cc, panels, keys, scores);
            weigh(scores, n, keys, s, Cp, tops, totals, sums);
            add_rows<T>(along_keys<T>(scores, n, keys, rounded), n, Cp, values, keys, sums);
          });
          for (int64_t j = 0; j < n; ++j) {
            const float share = float(1 / totals[j]);
            T* row = out + ((at + j) * H + h) * C;
            over(C, [&](int64_t c, int64_t count) {
              store(row + c, load(sums + j * Cp + c, count) * share, count);
            });
            lse[h * N + at + j] = float(tops[j] + std::log(totals[j]));
          }
        }
  }
}

template <class T>
void backward(const T* dout, const T* q, const T* k, const T* v, const T* out, const float* lse,
              T* dq, T* dk, T* dv, const int64_t* runs, int64_t R, int64_t N, int64_t H, int64_t K,
              int64_t C, const int64_t* strides, int64_t window, float scale, float softcap,
              int32_t threads) {
  const Scores s{scale, softcap};
  const std::vector<Tree> trees = trees_of(runs, R);
  const int64_t Cp = up(C, W), Cc = cells<T>(Cp), group = H / K, tasks = int64_t(trees.size()) * K;
  const int64_t part = tasks < 8 * threads ? 1 : group, parts = group / part;
  // What each head gives to its keys and values, added up in order afterwards.
  std::vector<float> shares(parts > 1 ? 2 * H * N * C : 0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t task = 0; task < tasks * parts; ++task) {
    const Tree& tree = trees[task / parts / K];
    const int64_t g = task / parts % K, rows = tree.rows(), base = tree.runs[tree.first].start;
    const int64_t keys_held = tree.panel_keys();
    memory.reserve(keys_held * (2 * Cc + Cp) + 2 * rows * Cp +
                   TILE * (2 * Cc + 3 * Cp + 5 * BLOCK_KEYS) + 16 * W);
    auto* key_panels = memory.take<Cell<T>>(keys_held * Cc);
    auto* value_panels = memory.take<Cell<T>>(keys_held * Cc);
    auto* key_columns = memory.take<Cell<T>>(keys_held * Cp);
    float *dkeys = memory.take(rows * Cp), *dvalues = memory.take(rows * Cp);
    auto *queries = memory.take<Cell<T>>(TILE * Cc), *upstream = memory.take<Cell<T>>(TILE * Cc);
    // Of floats the rows serve as columns, too.
    auto* query_columns = PAIRED<T> ? memory.take<Cell<T>>(TILE * Cp) : queries;
    auto* upstream_columns = PAIRED<T> ? memory.take<Cell<T>>(TILE * Cp) : upstream;
    float *sums = memory.take(TILE * Cp), *scores = memory.take(TILE * BLOCK_KEYS);
    float* slopes = memory.take(TILE * BLOCK_KEYS);
    auto *rounded = memory.take<Cell<T>>(TILE * BLOCK_KEYS), *turned = memory.take<Cell<T>>(TILE * BLOCK_KEYS);
    int64_t at_key = 0;
    for (int64_t r = tree.first; r < tree.last; at_key += up(tree.runs[r++].length, PANEL)) {
      const int64_t start = tree.runs[r].start, length = tree.runs[r].length;
      const T *keys = k + start * strides[1] + g * C, *values = v + start * strides[2] + g * C;
      pack_panels(keys, strides[1], length, C, key_panels + at_key * cells<T>(C));
      pack_panels(values, strides[2], length, C, value_panels + at_key * cells<T>(C));
      pack_columns(keys, strides[1], length, C, Cp, key_columns + at_key / DEPTH<T> * Cp);
    }
    std::fill(dkeys, dkeys + rows * Cp, 0.0f);
    std::fill(dvalues, dvalues + rows * Cp, 0.0f);
    const int64_t from = g * group + task % parts * part;
    for (int64_t h = from; h < from + part; ++h)
      for (int64_t r = tree.first; r < tree.last; ++r)
        for (int64_t i = 0; i < tree.runs[r].length; i += TILE) {
          const int64_t n = std::min(TILE, tree.runs[r].length - i), at = tree.runs[r].start + i;
          float delta[TILE];
          const T *query = q + at * strides[0] + h * C, *above = dout + (at * H + h) * C;
          pack_rows(query, strides[0], n, C, Cc, queries);
          pack_rows(above, H * C, n, C, Cc, upstream);
          if (PAIRED<T>) {
            pack_columns(query, strides[0], n, C, Cp, query_columns);
            pack_columns(above, H * C, n, C, Cp, upstream_columns);
          }
          std::fill(sums, sums + n * Cp, 0.0f);
          for (int64_t j = 0; j < n; ++j) {
            const T *a = above + j * H * C, *b = out + ((at + j) * H + h) * C;
            F total{};
            over(C, [&](int64_t c, int64_t count) { total += load(a + c, count) * load(b + c, count); });
            delta[j] = float(sum(total));
          }
          over_keys(tree, r, i, n, window, [&](const Keys& keys) {
            scores_of<T>(queries, n, C, Cc, key_panels, keys, scores);
            scores_of<T>(upstream, n, C, Cc, value_panels, keys, slopes);
            slopes_of(scores, slopes, n, keys, s, lse + h * N + at, delta);
            const auto* weights = along_keys<T>(scores, n, keys, rounded);
            add_transposed<T>(along_queries<T>(weights, n, keys, turned), n, Cp, upstream_columns, keys, dvalues);
            const auto* downs = along_keys<T>(slopes, n, keys, rounded);
            add_rows<T>(downs, n, Cp, key_columns, keys, sums);
            add_transposed<T>(along_queries<T>(downs, n, keys, turned), n, Cp, query_columns, keys, dkeys);
          });
          for (int64_t j = 0; j < n; ++j)
            copy_row(sums + j * Cp, C, dq + (at + j) * strides[3] + h * C);
        }
    for (int64_t j = 0; j < rows; ++j) {
      if (parts > 1) {
        copy_row(dkeys + j * Cp, C, &shares[((2 * from) * N + base + j) * C]);
        copy_row(dvalues + j * Cp, C, &shares[((2 * from + 1) * N + base + j) * C]);
      } else {
        copy_row(dkeys + j * Cp, C, dk + (base + j) * strides[4] + g * C);
        copy_row(dvalues + j * Cp, C, dv + (base + j) * strides[5] + g * C);
      }
    }
  }
  if (parts == 1) return;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < N; ++row)
    for (int64_t which = 0; which < 2; ++which)
      for (int64_t g = 0; g < K; ++g) {
        T* to = (which ? dv + row * strides[5] : dk + row * strides[4]) + g * C;
        over(C, [&](int64_t c, int64_t count) {
          F total{};
          for (int64_t h = g * group; h < (g + 1) * group; ++h)
            total += load(&shares[((2 * h + which) * N + row) * C + c], count);
          store(to + c, total, count);
        });
      }
}

}  // namespace

// q [N, H, C], k and v [N, K, C] with row strides; out [N, H, C] and lse [H, N] are contiguous.
// runs [R, 4]: start, length, depth and parent (-1: none), depth-first. window, softcap 0: none.
// Of backward dout and out are contiguous, lse is as forward wrote it; strides [6] are the row strides
// of q, k, v, dq, dk, dv.
#define FOR(T, suffix)                                                                            \
  extern "C" void attention_forward_##suffix(                                                     \
      const T* q, const T* k, const T* v, T* out, float* lse, const int64_t* runs, int64_t R,     \
      int64_t N, int64_t H, int64_t K, int64_t C, int64_t q_stride, int64_t k_stride,             \
      int64_t v_stride, int64_t window, float scale, float softcap, int32_t threads) {            \
    forward(q, k, v, out, lse, runs, R, N, H, K, C, q_stride, k_stride, v_stride, window, scale,  \
            softcap, threads);                                                                    \
  }                                                                                               \
  extern "C" void attention_backward_##suffix(                                                    \
      const T* dout, const T* q, const T* k, const T* v, const T* out, const float* lse, T* dq,   \
      T* dk, T* dv, const int64_t* runs, int64_t R, int64_t N, int64_t H, int64_t K, int64_t C,   \
      const int64_t* strides, int64_t window, float scale, float softcap, int32_t threads) {      \
    backward(dout, q, k, v, out, lse, dq, dk, dv, runs, R, N, H, K, C, strides, window, scale,    \
             softcap, threads);                                                                   \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
