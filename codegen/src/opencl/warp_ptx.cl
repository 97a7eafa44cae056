float alexc_tf32(float v) {
  uint bits;
  __asm__("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return as_float(bits);
}
float4 alexc_tf32x4(float4 v) {
  return (float4)(alexc_tf32(v.x), alexc_tf32(v.y), alexc_tf32(v.z), alexc_tf32(v.w));
}
float8 alexc_tf32x8(float8 v) { return (float8)(alexc_tf32x4(v.lo), alexc_tf32x4(v.hi)); }
float16 alexc_tf32x16(float16 v) { return (float16)(alexc_tf32x8(v.lo), alexc_tf32x8(v.hi)); }

float4 alexc_mma_tf32(float4 a, float4 a2, float4 b, float4 c) {
  float c0 = c.x, c1 = c.y, c2 = c.z, c3 = c.w;
  __asm__ volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
      : "r"(as_uint(a.x)), "r"(as_uint(a.y)), "r"(as_uint(a.z)), "r"(as_uint(a.w)),
        "r"(as_uint(b.x)), "r"(as_uint(b.y)));
  __asm__ volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
      : "r"(as_uint(a2.x)), "r"(as_uint(a2.y)), "r"(as_uint(a2.z)), "r"(as_uint(a2.w)),
        "r"(as_uint(b.z)), "r"(as_uint(b.w)));
  return (float4)(c0, c1, c2, c3);
}

// Four numbers as f16, the first of two in the lower half. They go together: a compiler that sees
// pairs apart loads them apart.
uint2 alexc_halves(float4 v) {
  uint low, high;
  __asm__("cvt.rn.f16x2.f32 %0, %3, %2; cvt.rn.f16x2.f32 %1, %5, %4;"
          : "=&r"(low), "=r"(high) : "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w));
  return (uint2)(low, high);
}

float4 alexc_mma_f16(float4 a, float4 a2, float4 b, float4 c) {
  float c0 = c.x, c1 = c.y, c2 = c.z, c3 = c.w;
  uint2 left = alexc_halves(a), left2 = alexc_halves(a2), right = alexc_halves(b);
  __asm__ volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
      : "r"(left.x), "r"(left.y), "r"(left2.x), "r"(left2.y), "r"(right.x), "r"(right.y));
  return (float4)(c0, c1, c2, c3);
}
