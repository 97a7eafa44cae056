kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void alexc_every(
    global const float *x_base, ulong x_first,  // f32[64] read
    global const half *h_base, ulong h_first,  // f16[64] read
    global const ushort *b_base, ulong b_first,  // bf16[64] read
    global const char *q_base, ulong q_first,  // i8[64] read
    global float *y_base, ulong y_first,  // f32[64] write
    global float *z_base, ulong z_first) {  // f32[64] readwrite
  global const float *x = x_base + x_first;
  global const half *h = h_base + h_first;
  global const ushort *b = b_base + b_first;
  global const char *q = q_base + q_first;
  global float *y = y_base + y_first;
  global float *z = z_base + z_first;
  float t[32] __attribute__((aligned(64)));
  float list[38] __attribute__((aligned(64)));
  int item = (int)get_global_id(0);
  int n = (uint)item / 2;
  int c = (uint)item % 2;
  float8 v0 = (float8)(0.1f);
  float8 v1 = (float8)(-0.0f);
  float8 v2 = (float8)(INFINITY);
  float8 v3 = (float8)(-INFINITY);
  float8 v4 = (float8)(as_float(0x7fc00000u));
  float8 v5 = (float8)(as_float(0xff800001u));
  float8 v6 = (float8)(1e-45f);
  float8 v7 = (float8)(3.4028235e38f);
  for (int i = 0; i < 2; ++i) {
    float8 v8 = vload8(0, x + (32 * n + 16 * c + 8 * i));
    float8 v9 = vload_half8(0, h + (32 * n + 8 * i));
    float8 v10 = (float8)(as_float((uint)b[n + i + 5] << 16));
    float v11 = convert_float(q[-32 * n - c + 33]);
    float8 v12 = (float8)(v11);
    float8 v13 = v8;
    float8 v14 = -v13;
    float8 v15 = fabs(v14);
    float8 v16 = sqrt(v15);
    float8 v17 = rint(v16);
    float8 v18 = as_float8((convert_int8(v17) + 127) << 23);
    float8 v19 = v18 + v12;
    float8 v20 = v19 - v10;
    float8 v21 = v20 * v9;
    float8 v22 = v21 / v7;
    float8 v23 = v22 > v6 ? v22 : v6;
    float8 v24 = v23 < v2 ? v23 : v2;
    float8 v25 = fma(v24, v0, v1);
    float v26 = alexc_sum8(v25);
    float v27 = alexc_max8(v25);
    vstore8(v25, 0, t + (8 * i));
    t[i + 16] = v26;
    t[30] = v27;
  }
  float4 v28 = vload4(0, t + 0);
  float4 v29 = vload4(0, z + (32 * n + 16 * c));
  float4 v30 = v28 > v29 ? v28 : v29;
  vstore4(v30, 0, z + (32 * n + 16 * c));
  float16 v31 = vload16(0, t + 1);
  vstore16(v31, 0, y + (32 * n + 16 * c));
  float v32 = t[16];
  float v33 = t[17];
  float v34 = v32 + v33;
  z[32 * n + 16 * c + 4] = v34;
  float v36;
  float8 v40;
  {
    int alexc_found = 0;
    for (int alexc_at = 0; alexc_at < 16; alexc_at += 1) {
      const float alexc_value = z[(32 * n + 16 * c) + alexc_at];
      list[alexc_found] = alexc_value;
      list[19 + alexc_found] = as_float((int)alexc_at);
      alexc_found += alexc_value != 0.0f;
    }
    for (int alexc_at = 0; alexc_at < 3; alexc_at += 1) {
      list[alexc_found + alexc_at] = 0.0f;
      list[19 + alexc_found + alexc_at] = 0.0f;
    }
    for (int alexc_at = 0; alexc_at < alexc_found; alexc_at += 2) {
      const int k = as_int(list[19 + alexc_at]);
      const int k_2 = as_int(list[20 + alexc_at]);
      const int k_3 = as_int(list[21 + alexc_at]);
      v36 = list[alexc_at + 0];
      v40 = (float8)(list[alexc_at + 1]);
      float8 v37 = vload8(0, t + k);
      float8 v38 = fma(v40, v37, v37);
      vstore8(v38, 0, t + k_2);
    }
  }
  float8 v39 = vload8(0, t + 8);
  vstore8(v39, 0, z + (32 * n + 16 * c));
}
