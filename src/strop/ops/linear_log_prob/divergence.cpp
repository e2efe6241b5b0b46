// Divergence of two rows of logits, a student's and a teacher's: both stay in the cache meanwhile.
#include <cmath>
#include <vector>

#include "bfloat16.h"

using namespace lanes;

namespace {

// log(1 + x) for x in 0 ... 1: twice the inverse hyperbolic tangent of x / (2 + x), which is below 1/3.
inline F log_one_more(F x) {
  const F s = x / (x + 2.0f), q = s * s;
  F sum = q * (1 / 15.0f) + 1 / 13.0f;
  sum = sum * q + 1 / 11.0f;
  sum = sum * q + 1 / 9.0f;
  sum = sum * q + 1 / 7.0f;
  sum = sum * q + 1 / 5.0f;
  sum = sum * q + 1 / 3.0f;
  return 2.0f * s * (sum * q + 1.0f);
}

// What turns a row's logits z into logarithms of probabilities: (z - top) - log_sum, which lie apart
// because their sum would be rounded to the size of the logits.
struct Total {
  float top, log_sum;
  F log_prob(F z) const {
    // nothing is less likely than a float can say, what is beyond the row included
    return larger((z - top) - log_sum, all(-1e4f));
  }
};

inline Total total_of(const float* row, int64_t V) {
  const float lowest = -std::numeric_limits<float>::infinity();
  F tops = all(lowest);
  over(V, [&](int64_t i, int64_t count) { tops = larger(load(row + i, count, lowest), tops); });
  const float top = largest(tops);
  double total = 0;
  blocks(V, [&](int64_t start, int64_t length) {
    F some{};
    over(length, [&](int64_t j, int64_t count) {
      some += exp(load(row + start + j, count, lowest) - top);
    });
    total += sum(some);
  });
  return {top, float(std::log(total))};
}

template <class T>
void divergence(T* students, T* teachers, float* values, int64_t R, int64_t V, float beta,
                int32_t gradient, int32_t threads) {
  static thread_local std::vector<float> student_memory, teacher_memory;
  const float lowest = -std::numeric_limits<float>::infinity();
  const float log_rest = std::log1p(-beta), log_beta = std::log(beta);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < R; ++r) {
    T* out = students + r * V;
    float* z = as_floats(out, V, student_memory);
    float* t = as_floats(teachers + r * V, V, teacher_memory);
    const Total of_z = total_of(z, V), of_t = total_of(t, V);
    double from_student = 0, from_teacher = 0;  // sums of p and of t times what is apart
    blocks(V, [&](int64_t start, int64_t length) {
      F some_student{}, some_teacher{};
      over(length, [&](int64_t j, int64_t count) {
        float *zs = z + start + j, *ts = t + start + j;
        const F log_p = of_z.log_prob(load(zs, count, lowest));
        const F log_t = of_t.log_prob(load(ts, count, lowest));
        const F p = exp(log_p);
        F apart = log_p - log_t;
        if (beta == 0) {
          some_teacher -= exp(log_t) * apart;
          if (gradient) store(zs, p - exp(log_t), count);
          return;
        }
        if (beta != 1) {
          const F one = log_p + log_rest, other = log_t + log_beta;
          const F more = larger(one, other);
          const F mixed = more + log_one_more(exp(smaller(one, other) - more));
          some_teacher += exp(log_t) * (log_t - mixed);
          apart = log_p - mixed;
        }
        const F of_student = p * apart;
        some_student += of_student;
        if (!gradient) return;
        store(zs, of_student, count);
        store(ts, p, count);
      });
      from_student += sum(some_student);
      from_teacher += sum(some_teacher);
    });
    const float rest = beta == 1 ? 1 : 1 - beta;
    values[r] = float((beta == 0 ? 1 : beta) * from_teacher + rest * from_student);
    if (!gradient) continue;
    over(V, [&](int64_t i, int64_t count) {
      F dz = load(z + i, count);
      if (beta != 0) dz = rest * (dz - load(t + i, count) * float(from_student));
      store(out + i, dz, count);
    });
  }
}

}  // namespace

// students and teachers [R, V] have logits before; where gradient is set, students has the gradient of
// values [R] with respect to them afterwards, and teachers nothing of use.
#define FOR(T, suffix)                                                                           \
  extern "C" void divergence_##suffix(T* students, T* teachers, float* values, int64_t R,        \
                                      int64_t V, float beta, int32_t gradient, int32_t threads) { \
    divergence(students, teachers, values, R, V, beta, gradient, threads);                       \
  }
FOR(float, float32)
FOR(Bfloat16, bfloat16)
