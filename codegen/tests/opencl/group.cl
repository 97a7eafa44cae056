kernel __attribute__((reqd_work_group_size(8, 1, 1)))
void alexc_rows(
    global const float *matrix_base, ulong matrix_first,  // f32[60] read
    global const float *vector_base, ulong vector_first,  // f32[15] read
    global float *sums_base, ulong sums_first) {  // f32[4] write
  global const float *matrix = matrix_base + matrix_first;
  global const float *vector = vector_base + vector_first;
  global float *sums = sums_base + sums_first;
  local float part[8] __attribute__((aligned(16)));
  int group = (int)get_group_id(0);
  int pair = group;
  int item = (int)get_local_id(0);
  int row = (uint)item / 4;
  int lane = (uint)item % 4;
  float v0 = 0.0f;
  for (int i = 0; i < 4; ++i) {
    int k = lane + 4 * i;
    float v1 = ((uint)k < 15) ? matrix[30 * pair + 15 * row + k] : 0.0f;
    float v2 = ((uint)k < 15) ? vector[k] : 0.0f;
    v0 = fma(v1, v2, v0);
  }
  part[4 * row + lane] = v0;
  barrier(CLK_LOCAL_MEM_FENCE);
  int number = 4 * row + lane;
  int second = (uint)number / 4;
  int other = (uint)number % 4;
  float4 v3 = *(local float4 *)(part + (4 * second));
  float v4 = alexc_sum4(v3);
  float v5 = v3.s2;
  float v6 = v5 - v5;
  v4 = v4 + v6;
  if ((uint)other < 1) sums[2 * pair + second] = v4;
}
