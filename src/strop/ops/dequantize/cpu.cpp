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
#pragma omp parallel for schedule(static) num_threads(threads) if (count > 1 << 15)
  for (int64_t j = 0; j < groups; ++j) {
    const float scale = scales[j];
    const int64_t first = j * group, last = first + group < count ? first + group : count;
    int64_t i = first;
    if (bits == 4 && first % 2 == 0)
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
