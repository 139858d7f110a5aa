/* The rows of a block through all trees, with the vectors of one kind of machine: included once for each kind, with

   WIDTH   how many numbers a vector has
   TARGET  for which machine the functions are made
   NAME    what distinguishes their names
   GATHER  what reads floats at many places at once; without it, they are read one by one */

typedef uint32_t NAME(Vector) __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t NAME(Signed) __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef float NAME(Floats) __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define Vector NAME(Vector)
#define Signed NAME(Signed)
#define Floats NAME(Floats)
#define INLINED TARGET static inline __attribute__((always_inline))
#define IN_GROUP (LANES / WIDTH) /* vectors */

/* What `key_of` makes of the numbers in one column of sixteen rows. */
INLINED void
NAME(load_column)(const float *column, uint32_t stride, uint32_t *keys)
{
    for (int start = 0; start < LANES; start += WIDTH) {
        Floats numbers;
        Vector bits;
        for (int row = 0; row < WIDTH; row++)
            numbers[row] = column[(size_t)(start + row) * stride];
        numbers += 0.0f;
        bits = *(Vector *)&numbers;
        *(Vector *)(keys + start) = (bits ^ ((Vector)((Signed)bits >> 31) | 0x80000000u)) |
                                    (Vector)((Signed)(bits & 0x7fffffffu) > 0x7f800000);
    }
}

/* The numbers of the ends that rows of one group, or of two, reach in a tree. */
INLINED void
NAME(cut_rows)(const Cut *cut, const Cut *end, const uint32_t *keys, size_t next, const int groups, uint32_t *numbers)
{
    Vector alive[2 * IN_GROUP];
    for (int at = 0; at < 2 * IN_GROUP; at++)
        alive[at] = ~(Vector){0};
    for (; cut < end; cut++)
#pragma GCC unroll 8
        for (int at = 0; at < groups * IN_GROUP; at++) {
            const uint32_t *mine = keys + at / IN_GROUP * next + at % IN_GROUP * WIDTH + cut->feature;
            alive[at] &= (Vector)((Signed)(*(const Vector *)mine - cut->low) > cut->width) | cut->keep;
        }
#pragma GCC unroll 8
    for (int at = 0; at < groups * IN_GROUP; at++) { /* a power of two is a float that has it as its exponent */
        Floats power = __builtin_convertvector((Signed)(alive[at] & -alive[at]), Floats);
        *(Vector *)(numbers + at * WIDTH) = ((*(Vector *)&power >> 23) & 0xff) - 127;
    }
}

/* Add the value of each row's end to its sum. */
INLINED void
NAME(add_values)(const float *values, const uint32_t *numbers, float *sums)
{
    for (int start = 0; start < LANES; start += WIDTH) {
#ifdef GATHER
        *(Floats *)(sums + start) += (Floats)GATHER(numbers + start, values);
#else
        for (int lane = start; lane < start + WIDTH; lane++)
            sums[lane] += values[numbers[lane]];
#endif
    }
}

/* Walk on from the ends that rows have reached, and add what the leaves say. */
INLINED void
NAME(walk_on)(const Trees *self, uint32_t tree, const uint32_t *keys, const uint32_t *numbers, int count, float *sums)
{
    const uint32_t *ends = self->upper.ends + self->upper.end_start[tree];
    for (int start = 0; start < count; start += WALKED) {
        uint32_t found[WALKED];
        for (int lane = 0; lane < WALKED; lane++)
            found[lane] = ends[numbers[start + lane]];
        walk_rows(self->nodes, keys + start, self->upper.rest[tree], found);
        for (int lane = 0; lane < WALKED && start + lane < count; lane++)
            add_leaf(self, found[lane], sums + (size_t)(start + lane) * self->target_count);
    }
}

INLINED void
NAME(score_tree)(const Trees *self, uint32_t tree, const uint32_t *keys, Py_ssize_t count, float *sums)
{
    const Cuts *upper = &self->upper;
    const Cut *cuts = upper->cuts + upper->cut_start[tree], *end = upper->cuts + upper->cut_start[tree + 1];
    const float *values = upper->values + upper->end_start[tree];
    int is_simple = self->values != NULL && upper->rest[tree] == 0;
    uint32_t numbers[2 * LANES];
    size_t size = (size_t)self->column_count * LANES;
    for (Py_ssize_t at = 0; at < count; at += 2 * LANES) {
        int some = count - at < 2 * LANES ? (int)(count - at) : 2 * LANES;
        const uint32_t *mine = keys + (size_t)at / LANES * size;
        if (some > LANES)
            NAME(cut_rows)(cuts, end, mine, size, 2, numbers);
        else
            NAME(cut_rows)(cuts, end, mine, size, 1, numbers);
        for (int lane = 0; lane < some; lane += LANES)
            if (is_simple)
                NAME(add_values)(values, numbers + lane, sums + at + lane);
            else
                NAME(walk_on)(self, tree, mine + lane / LANES * size, numbers + lane,
                              some - lane < LANES ? some - lane : LANES, sums + (size_t)(at + lane) * self->target_count);
    }
}

/* The sums of a block of rows, which goes through a tree while that is in the cache. There is room for whole groups. */
TARGET static void
NAME(score_block)(const Trees *self, const float *rows, Py_ssize_t count, uint32_t *keys, float *sums)
{
    size_t size = (size_t)self->column_count * LANES, groups = ((size_t)count + LANES - 1) / LANES;
    for (Py_ssize_t at = 0; at < count; at += LANES) {
        const float *mine = rows + (size_t)at * self->width;
        uint32_t *group = keys + (size_t)at / LANES * size;
        if (count - at < LANES)
            load_keys(self, mine, (int)(count - at), group);
        else
            for (uint32_t column = 0; column < self->column_count; column++)
                NAME(load_column)(mine + self->columns[column], self->width, group + column * LANES);
    }
    memset(sums, 0, sizeof(float) * self->target_count * groups * LANES);
    for (uint32_t tree = 0; tree < self->tree_count; tree++)
        NAME(score_tree)(self, tree, keys, count, sums);
}

#undef Vector
#undef Signed
#undef Floats
#undef INLINED
#undef IN_GROUP
#undef WIDTH
#undef TARGET
#undef NAME
#undef GATHER
