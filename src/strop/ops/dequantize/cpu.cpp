// A packed weight made dense: one group of weights after another, its scale made on the way.
#include "lanes.h"

namespace {

struct Scales {
  const void* codes;
  const float* table;
  const float* factors;
  int64_t group;
  float offset;

  float operator[](int64_t j) const {
    if (!table) return static_cast<const float*>(codes)[j];
    // Volatile, so that it is rounded before the sum: fused, the last bit would not be bitsandbytes'.
    const volatile float product =
        table[static_cast<const uint8_t*>(codes)[j]] * factors[j / group];
    return product + offset;
  }
};

inline void put(float* to, float value) { *to = value; }

inline void put(uint16_t* to, float value) {  // to the nearest bfloat16, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  *to = value != value ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

template <int bits>
inline int code(const uint8_t* low, const uint8_t* high, int64_t i) {
  if (bits == 8) return low[i];
  const int nibble = i & 1 ? low[i >> 1] & 15 : low[i >> 1] >> 4;
  if (bits == 5) return nibble | ((high[i >> 3] >> (i & 7)) & 1) << 4;
  if (bits == 6) return nibble | ((high[i >> 2] >> (2 * (i & 3))) & 3) << 4;
  return nibble;
}

#if defined(__GNUC__) && !defined(__clang__) && (defined(__AVX512F__) || defined(__AVX2__))
#define LANES 1
using lanes::F;
using lanes::I;
using lanes::W;
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t Half __attribute__((vector_size(2 * W)));
typedef uint8_t Byte __attribute__((vector_size(W)));

// How far each lane's four bits, and what is above them, lie from the low end of its word.
struct Shifts {
  U nibble, rest;
  I second;  // lanes whose four bits lie in the second word

  explicit Shifts(int width) {
    for (int k = 0; k < W; ++k) {
      nibble[k] = 8 * ((k % 8) / 2) + (k % 2 ? 0 : 4);
      rest[k] = width * k;
      second[k] = k < 8 ? 0 : -1;
    }
  }
};

// The codes of the W weights from i, a multiple of W.
template <int bits>
inline I codes_of(const uint8_t* low, const uint8_t* high, int64_t i, const Shifts& shifts) {
  if (bits == 8) {
    Byte bytes;
    std::memcpy(&bytes, low + i, sizeof bytes);
    return __builtin_convertvector(bytes, I);
  }
  uint32_t words[2] = {};
  std::memcpy(words, low + i / 2, W / 2);
  const U first = U{} + words[0], second = U{} + words[1];
  U code = ((shifts.second ? second : first) >> shifts.nibble) & 15u;
  if (bits > 4) {
    uint32_t word = 0;
    std::memcpy(&word, high + i * (bits - 4) / 8, W * (bits - 4) / 8);
    code |= (((U{} + word) >> shifts.rest) & ((1u << (bits - 4)) - 1)) << 4;
  }
  return (I)code;
}

// What codes mean: numbers in registers, or evenly spaced from -1 where they are too many.
template <int bits>
struct Levels {
  lanes::Table<1 << bits> table;

  explicit Levels(const float* from) : table(from) {}
  F operator[](I code) const { return table[code]; }
};

template <>
struct Levels<8> {
  explicit Levels(const float*) {}
  F operator[](I code) const { return __builtin_convertvector(code - 128, F) * (1.0f / 128); }
};

inline void put(float* to, F values) { lanes::store(to, values); }

inline void put(uint16_t* to, F values) {
  U word;
  std::memcpy(&word, &values, sizeof word);
  const U rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  const I odd = values != values;  // a NaN stays one
  const Half half = __builtin_convertvector(odd ? U{} + 0x7fc0u : rounded, Half);
  std::memcpy(to, &half, sizeof half);
}

inline bool evenly_spaced(const float* table, int count) {
  for (int k = 0; k < count; ++k)
    if (table[k] != float(k - count / 2) / float(count / 2)) return false;
  return true;
}
#endif

struct Pair {
  float first, second;
};

template <int bits, class To>
void run(const uint8_t* codes, const float* table, const Scales& scales, To* out, int64_t count,
         int64_t group, int32_t threads) {
  const uint8_t* high = codes + (count + 1) / 2;
  Pair pairs[256];
  for (int byte = 0; bits == 4 && byte < 256; ++byte)
    pairs[byte] = {table[byte >> 4], table[byte & 15]};
  const int64_t groups = (count + group - 1) / group;
#ifdef LANES
  const bool wide = group % W == 0 && (bits < 8 || evenly_spaced(table, 1 << bits));
  const Shifts shifts(bits - 4);
  const Levels<bits> levels(table);
#endif
#pragma omp parallel for schedule(static) num_threads(threads) if (count > 1 << 15)
  for (int64_t j = 0; j < groups; ++j) {
    const float scale = scales[j];
    const int64_t first = j * group, last = first + group < count ? first + group : count;
    int64_t i = first;
#ifdef LANES
    for (; wide && i + W <= last; i += W)
      put(out + i, levels[codes_of<bits>(codes, high, i, shifts)] * scale);
#endif
    if (bits == 4 && i % 2 == 0)
      for (; i + 2 <= last; i += 2) {
        const Pair pair = pairs[codes[i >> 1]];
        put(out + i, pair.first * scale);
        put(out + i + 1, pair.second * scale);
      }
    if (bits == 5 || bits == 6)
      for (; i + 8 <= last; i += 8)
        for (int k = 0; k < 8; ++k) put(out + i + k, table[code<bits>(codes, high, i + k)] * scale);
    for (; i < last; ++i) put(out + i, table[code<bits>(codes, high, i)] * scale);
  }
}

template <class To>
void any(const uint8_t* codes, const float* table, const Scales& scales, To* out, int64_t count,
         int64_t group, int32_t bits, int32_t threads) {
  if (bits == 4) run<4>(codes, table, scales, out, count, group, threads);
  if (bits == 5) run<5>(codes, table, scales, out, count, group, threads);
  if (bits == 6) run<6>(codes, table, scales, out, count, group, threads);
  if (bits == 8) run<8>(codes, table, scales, out, count, group, threads);
}

}  // namespace

// scale_table and factors are null where scale_codes are the scales themselves, as floats.
extern "C" void dequantize_float(const uint8_t* codes, const float* table, const void* scale_codes,
                                 const float* scale_table, const float* factors, float* out,
                                 int64_t count, int64_t group, int64_t scale_group, float offset,
                                 int32_t bits, int32_t threads) {
  any(codes, table, {scale_codes, scale_table, factors, scale_group, offset}, out, count, group,
      bits, threads);
}

extern "C" void dequantize_bfloat16(const uint8_t* codes, const float* table,
                                    const void* scale_codes, const float* scale_table,
                                    const float* factors, uint16_t* out, int64_t count,
                                    int64_t group, int64_t scale_group, float offset, int32_t bits,
                                    int32_t threads) {
  any(codes, table, {scale_codes, scale_table, factors, scale_group, offset}, out, count, group,
      bits, threads);
}
