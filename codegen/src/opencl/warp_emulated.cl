float alexc_tf32(float v) {
  return isnan(v) ? v : as_float((as_uint(v) + 0x1000u) & 0xffffe000u);
}
float4 alexc_tf32x4(float4 v) {
  return (float4)(alexc_tf32(v.x), alexc_tf32(v.y), alexc_tf32(v.z), alexc_tf32(v.w));
}
float8 alexc_tf32x8(float8 v) { return (float8)(alexc_tf32x4(v.lo), alexc_tf32x4(v.hi)); }
float16 alexc_tf32x16(float16 v) { return (float16)(alexc_tf32x8(v.lo), alexc_tf32x8(v.hi)); }

float alexc_as_tf32(float v) { return as_float(as_uint(v) & 0xffffe000u); }
float alexc_as_f16(float v) {
  ushort bits;
  vstore_half_rte(v, 0, (half *)&bits);
  return vload_half(0, (const half *)&bits);
}

// Every item finds the elements of its four sums among those of the warp's others. Types differ in
// which item holds an element, in which place, and in how it is rounded.
float4 alexc_mma(
    float4 a, float4 a2, float4 b, float4 c, local float *exchange, bool halves) {
  int item = get_local_id(0);
  vstore4(a, 0, exchange + 12 * item);
  vstore4(a2, 1, exchange + 12 * item);
  vstore4(b, 2, exchange + 12 * item);
  barrier(CLK_LOCAL_MEM_FENCE);
  local float *warp = exchange + 12 * (item / 32 * 32);
  float sums[4] = {c.x, c.y, c.z, c.w};
  for (int i = 0; i < 4; ++i) {
    int row = item % 32 / 4 + i / 2 * 8, column = item % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      int holder = halves ? k % 8 / 2 : k % 4;
      int place = halves ? row / 8 * 2 + k % 2 : k % 8 / 4 * 2 + row / 8;
      float left = warp[12 * (row % 8 * 4 + holder) + k / 8 * 4 + place];
      float right =
          warp[12 * (column * 4 + holder) + 8 + k / 8 * 2 + (halves ? k % 2 : k % 8 / 4)];
      sums[i] = halves ? fma(alexc_as_f16(left), alexc_as_f16(right), sums[i])
                       : fma(alexc_as_tf32(left), alexc_as_tf32(right), sums[i]);
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return (float4)(sums[0], sums[1], sums[2], sums[3]);
}

float4 alexc_mma_tf32(float4 a, float4 a2, float4 b, float4 c, local float *exchange) {
  return alexc_mma(a, a2, b, c, exchange, false);
}

float4 alexc_mma_f16(float4 a, float4 a2, float4 b, float4 c, local float *exchange) {
  return alexc_mma(a, a2, b, c, exchange, true);
}
