/* The upper part of each tree without a walk: all its questions are asked, of many rows at once.

   The upper part ends at 32 nodes at most, which for a small tree are its leaves: these are its ends. They are numbered
   from the side of "no" to that of "yes", and each row has a bit for every end that it can still reach. A "yes" takes away
   the ends on the other side: that is the question's cut. When all have been asked, the lowest bit that is left is the end
   that a walk would have come to: each end below that number lies on the "no" side of a question of the path whose answer
   was "yes", and no "yes" takes away an end on whose path it is not. From there, what is deeper is walked. This is
   QuickScorer (Lucchese et al., SIGIR 2015), for many rows at once (RapidScorer, Ye et al., KDD 2018), tree by tree, as
   the order in which leaves are added is ONNX Runtime's. */

enum { MOST_ENDS = 32 };

typedef struct {
    uint32_t low; /* as in a Node, moved by 2^31, so that a comparison of signed numbers answers */
    int32_t width;
    uint32_t feature, keep; /* the ends that a "yes" leaves */
} Cut;

typedef struct {
    Cut *cuts;
    uint32_t *cut_start; /* of each tree, and where the last one's end */
    uint32_t *end_start; /* of each tree */
    uint32_t *ends;      /* nodes */
    uint32_t *rest;      /* how deep each tree goes below its ends */
    float *values;       /* of the ends, where there is one target; of those that are leaves */
} Cuts;

/* The number of leaves below each node, or MOST_ENDS. */
static void
count_leaves(const Node *nodes, uint32_t count, uint8_t *below)
{
    for (uint32_t at = count; at-- > 0;) {
        uint32_t child = nodes[at].child, sum = child == at ? 1 : below[child] + below[child + 1];
        below[at] = sum > MOST_ENDS ? MOST_ENDS : (uint8_t)sum;
    }
}

/* Choose where the upper part of a tree ends, so that as little as can be is left below: mark these nodes. */
static uint32_t
choose_ends(const Node *nodes, const uint32_t *depths, uint32_t root, uint8_t *marks, uint32_t *chosen)
{
    uint32_t count = 1;
    chosen[0] = root;
    while (count < MOST_ENDS) {
        uint32_t deepest = 0, node;
        for (uint32_t at = 1; at < count; at++)
            if (depths[chosen[at]] > depths[chosen[deepest]])
                deepest = at;
        node = chosen[deepest];
        if (depths[node] == 0)
            break;
        chosen[deepest] = nodes[node].child;
        chosen[count++] = nodes[node].child + 1;
    }
    for (uint32_t at = 0; at < count; at++)
        marks[chosen[at]] = 1;
    return count;
}

/* Number the ends below a node from `first` on, and make its cuts; gives the number after the last. */
static uint32_t
cut_below(const Node *nodes, const uint8_t *marks, uint32_t at, uint32_t first, Cut **cut, uint32_t *ends)
{
    const Node *node = nodes + at;
    uint32_t middle, end;
    if (marks[at]) {
        ends[first] = at;
        return first + 1;
    }
    middle = cut_below(nodes, marks, node->child, first, cut, ends);
    end = cut_below(nodes, marks, node->child + 1, middle, cut, ends);
    (*cut)->low = node->low + 0x80000000u;
    (*cut)->width = (int32_t)(node->width ^ 0x80000000u);
    (*cut)->feature = node->feature;
    (*cut)->keep = ~(((1u << (middle - first)) - 1) << first);
    (*cut)++;
    return end;
}

static void
free_cuts(Cuts *self)
{
    void *held[] = {self->cuts, self->cut_start, self->end_start, self->ends, self->rest, self->values};
    for (size_t at = 0; at < sizeof(held) / sizeof(held[0]); at++)
        free(held[at]);
}

/* Make the cuts of a tree, whose ends begin at `start`. */
static void
cut_tree(Cuts *self, const Node *nodes, const uint32_t *depths, uint32_t tree, uint32_t root, uint8_t *marks)
{
    uint32_t chosen[MOST_ENDS], count = choose_ends(nodes, depths, root, marks, chosen);
    Cut *cut = self->cuts + self->cut_start[tree];
    uint32_t *ends = self->ends + self->end_start[tree], found = cut_below(nodes, marks, root, 0, &cut, ends);
    self->cut_start[tree + 1] = (uint32_t)(cut - self->cuts);
    for (uint32_t at = 0; at < found; at++)
        if (depths[ends[at]] > self->rest[tree])
            self->rest[tree] = depths[ends[at]];
    while (count--)
        marks[chosen[count]] = 0;
}

/* Make the cuts of all trees. `depths` are those of nodes; `values`, too, or NULL. */
static int
make_cuts(Cuts *self, const Node *nodes, uint32_t node_count, const uint32_t *depths, const uint32_t *roots,
          uint32_t count, const float *values)
{
    uint8_t *marks = malloc(node_count);
    size_t ends = 0;
    self->cut_start = calloc((size_t)count + 1, sizeof(uint32_t));
    self->end_start = calloc(count, sizeof(uint32_t));
    self->rest = calloc(count, sizeof(uint32_t));
    if (marks == NULL || self->cut_start == NULL || self->end_start == NULL || self->rest == NULL) {
        free(marks);
        return -1;
    }
    count_leaves(nodes, node_count, marks);
    for (uint32_t tree = 0; tree < count; tree++) {
        self->end_start[tree] = (uint32_t)ends;
        ends += marks[roots[tree]];
    }
    memset(marks, 0, node_count);
    self->cuts = malloc((ends + 1) * sizeof(Cut));
    self->ends = calloc(ends + 1, sizeof(uint32_t));
    self->values = malloc((ends + 1) * sizeof(float));
    if (ends <= UINT32_MAX && self->cuts != NULL && self->ends != NULL && self->values != NULL) {
        for (uint32_t tree = 0; tree < count; tree++)
            cut_tree(self, nodes, depths, tree, roots[tree], marks);
        for (size_t at = 0; values != NULL && at < ends; at++)
            self->values[at] = values[self->ends[at]];
        ends = 0;
    }
    free(marks);
    return ends ? -1 : 0;
}
