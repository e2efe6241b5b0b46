// Gated linear unit: one pass over memory in each direction.
#include "bfloat16.h"

using namespace lanes;

constexpr int64_t SMALL = 1 << 13;  // elements below which waking threads costs more than it saves

struct Silu {
  // Returns the activation of g and writes its derivative.
  static F at(F g, F* slope) {
    const F s = sigmoid(g);
    if (slope) *slope = s * (1.0f + g * (1.0f - s));
    return g * s;
  }
};

struct GeluTanh {
  static F at(F g, F* slope) {
    constexpr float factor = 0.797884561f, cubic = 0.044715f;  // factor: sqrt(2 / pi)
    const F square = g * g;
    const F t = tanh(factor * g * (1.0f + cubic * square));
    const F gate = 0.5f * (1.0f + t);
    if (slope) {
      // Where t is +-1 the second term is 0, however large g is.
      const F bend = smaller(square, all(1e6f));
      *slope = gate + 0.5f * g * (1.0f - t * t) * (factor * (1.0f + 3 * cubic * bend));
    }
    return g * gate;
  }
};

struct Gelu {
  static F at(F g, F* slope) {
    const F below = 0.5f * (1.0f + erf(g * 0.707106781f));
    if (slope) *slope = below + g * (0.398942280f * exp(-0.5f * g * g));
    return g * below;
  }
};

template <class Activation, class T>
static void forward(const T* gate_up, T* act, int64_t N, int64_t columns, int64_t gn,
                    int64_t an, int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (N * columns > SMALL)
  for (int64_t n = 0; n < N; ++n) {
    const T* gate = gate_up + n * gn;
    over(columns, [&](int64_t i, int64_t count) {
      const F value = Activation::at(load(gate + i, count), nullptr);
      store(act + n * an + i, value * load(gate + columns + i, count), count);
    });
  }
}

template <class Activation, class T>
static void backward(const T* dact, const T* gate_up, T* dgate_up, T* act, int64_t N,
                     int64_t columns, int64_t dn, int64_t gn, int64_t dgn, int64_t an,
                     int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (N * columns > SMALL)
  for (int64_t n = 0; n < N; ++n) {
    const T* gate = gate_up + n * gn;
    T* dgate = dgate_up + n * dgn;
    over(columns, [&](int64_t i, int64_t count) {
      F slope;
      const F value = Activation::at(load(gate + i, count), &slope);
      const F up = load(gate + columns + i, count), upstream = load(dact + n * dn + i, count);
      if (act) store(act + n * an + i, value * up, count);
      store(dgate + i, upstream * up * slope, count);
      store(dgate + columns + i, upstream * value, count);
    });
  }
}

// activation: 0 silu, 1 gelu_tanh, 2 gelu. Row n of gate_up starts at gate_up + n * gn. act of
// backward may be null; dgate_up may be gate_up.
#define FOR(T, suffix)                                                                            \
  extern "C" void glu_forward_##suffix(const T* gate_up, T* act, int64_t N, int64_t columns,      \
                                       int64_t gn, int64_t an, int32_t activation,                \
                                       int32_t threads) {                                         \
    const auto run = activation == 0   ? forward<Silu, T>                                         \
                     : activation == 1 ? forward<GeluTanh, T>                                     \
                                       : forward<Gelu, T>;                                        \
    run(gate_up, act, N, columns, gn, an, threads);                                               \
  }                                                                                               \
  extern "C" void glu_backward_##suffix(const T* dact, const T* gate_up, T* dgate_up, T* act,     \
                                        int64_t N, int64_t columns, int64_t dn, int64_t gn,       \
                                        int64_t dgn, int64_t an, int32_t activation,              \
                                        int32_t threads) {                                        \
    const auto run = activation == 0   ? backward<Silu, T>                                        \
                     : activation == 1 ? backward<GeluTanh, T>                                    \
                                       : backward<Gelu, T>;                                       \
    run(dact, gate_up, dgate_up, act, N, columns, dn, gn, dgn, an, threads);                      \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
