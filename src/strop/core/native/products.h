// A small matrix product whose sums stay in registers: what larger products are made of.
#pragma once
#include "lanes.h"

namespace lanes {

// Rows and vectors of columns at once: as many sums as hide the latency and fit the registers.
constexpr int64_t MR = 6, NV = W == 16 ? 4 : 2;

inline F vector_at(const float* from) { return load(from); }
inline F spread(float value) { return all(value); }
inline F plus_product(F sum, F factor, F row) { return sum + factor * row; }

// c [R, V vectors] = a b, added to what is there if `add`; a [R, n] has any strides, b [n, V vectors].
// Cells are floats, or what else has the three functions above.
template <int R, int V, class Cell>
inline void kernel(const Cell* a, int64_t ar, int64_t ak, const Cell* b, int64_t bs, int64_t n,
                   float* c, int64_t cs, bool add) {
  typedef decltype(vector_at(b)) Vector;
  F sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = add ? load(c + r * cs + v * W) : F{};
  for (int64_t i = 0; i < n; ++i) {
    Vector row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = vector_at(b + i * bs + v * W);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vector factor = spread(a[r * ar + i * ak]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = plus_product(sum[r][v], factor, row[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(c + r * cs + v * W, sum[r][v]);
}

template <int V, class Cell>
void rows_of(int64_t rows, const Cell* a, int64_t ar, int64_t ak, const Cell* b, int64_t bs,
             int64_t n, float* c, int64_t cs, bool add) {
  switch (rows) {
    case 6: return kernel<6, V>(a, ar, ak, b, bs, n, c, cs, add);
    case 5: return kernel<5, V>(a, ar, ak, b, bs, n, c, cs, add);
    case 4: return kernel<4, V>(a, ar, ak, b, bs, n, c, cs, add);
    case 3: return kernel<3, V>(a, ar, ak, b, bs, n, c, cs, add);
    case 2: return kernel<2, V>(a, ar, ak, b, bs, n, c, cs, add);
    default: return kernel<1, V>(a, ar, ak, b, bs, n, c, cs, add);
  }
}

// c [rows, columns] (+)= a [rows, n] b [n, columns]; at most MR rows and NV vectors of columns.
template <class Cell>
inline void product(int64_t rows, int64_t columns, int64_t n, const Cell* a, int64_t ar, int64_t ak,
                    const Cell* b, int64_t bs, float* c, int64_t cs, bool add) {
  switch ((columns + W - 1) / W) {
    case 1: return rows_of<1>(rows, a, ar, ak, b, bs, n, c, cs, add);
    case 2: return rows_of<2>(rows, a, ar, ak, b, bs, n, c, cs, add);
    case 3: return rows_of<NV < 3 ? 2 : 3>(rows, a, ar, ak, b, bs, n, c, cs, add);
    default: return rows_of<NV>(rows, a, ar, ak, b, bs, n, c, cs, add);
  }
}

}  // namespace lanes
