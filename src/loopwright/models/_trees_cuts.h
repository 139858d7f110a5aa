/* Small trees without a walk: all their questions are asked, of many rows at once.

   The leaves of a tree are numbered from the side of "no" to that of "yes", and each row has a bit for every leaf that it
   can still reach. A "yes" takes away the leaves on the other side: that is the question's cut. When all have been asked,
   the lowest bit that is left is the leaf that a walk would have come to: each leaf below that number lies on the "no"
   side of a question of the path whose answer was "yes", and no "yes" takes away a leaf on whose path it is not. This is
   QuickScorer (Lucchese et al., SIGIR 2015), for many rows at once (RapidScorer, Ye et al., KDD 2018), tree by tree, as
   the order in which leaves are added is ONNX Runtime's. */

enum { MOST_LEAVES = 32 };
#define NOWHERE 0xffffffffu

typedef struct {
    uint32_t low; /* as in a Node, moved by 2^31, so that a comparison of signed numbers answers */
    int32_t width;
    uint32_t feature, keep; /* the leaves that a "yes" leaves */
} Cut;

typedef struct {
    Cut *cuts;
    uint32_t *cut_start;  /* of each tree */
    uint32_t *leaf_start; /* of each tree; NOWHERE if it has too many leaves, and is walked */
    uint32_t *leaves;     /* their nodes */
    float *values;        /* of the leaves, where there is one target */
} Cuts;

/* The number of leaves below each node, at most one more than a tree with cuts may have. */
static void
count_leaves(const Node *nodes, uint32_t count, uint8_t *below)
{
    for (uint32_t at = count; at-- > 0;) {
        uint32_t child = nodes[at].child, sum = child == at ? 1 : below[child] + below[child + 1];
        below[at] = sum > MOST_LEAVES ? MOST_LEAVES + 1 : (uint8_t)sum;
    }
}

/* Number the leaves below a node from `first` on, and make its cuts; gives the number after the last. */
static uint32_t
cut_below(const Node *nodes, uint32_t at, uint32_t first, Cut **cut, uint32_t *leaves)
{
    const Node *node = nodes + at;
    uint32_t middle, end;
    if (node->child == at) {
        leaves[first] = at;
        return first + 1;
    }
    middle = cut_below(nodes, node->child, first, cut, leaves);
    end = cut_below(nodes, node->child + 1, middle, cut, leaves);
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
    free(self->cuts);
    free(self->cut_start);
    free(self->leaf_start);
    free(self->leaves);
    free(self->values);
}

/* Make the cuts of all trees that are small enough. `values` are those of nodes, or NULL. */
static int
make_cuts(Cuts *self, const Node *nodes, uint32_t node_count, const uint32_t *roots, uint32_t count, const float *values)
{
    uint8_t *below = malloc(node_count);
    size_t leaves = 0;
    Cut *cut;
    self->cut_start = calloc((size_t)count + 1, sizeof(uint32_t));
    self->leaf_start = calloc(count, sizeof(uint32_t));
    if (below == NULL || self->cut_start == NULL || self->leaf_start == NULL) {
        free(below);
        return -1;
    }
    count_leaves(nodes, node_count, below);
    for (uint32_t tree = 0; tree < count; tree++) {
        int is_small = below[roots[tree]] <= MOST_LEAVES && leaves < NOWHERE - MOST_LEAVES;
        self->leaf_start[tree] = is_small ? (uint32_t)leaves : NOWHERE;
        leaves += is_small ? below[roots[tree]] : 0;
    }
    free(below);
    self->cuts = malloc((leaves + 1) * sizeof(Cut));
    self->leaves = malloc((leaves + 1) * sizeof(uint32_t));
    self->values = malloc((leaves + 1) * sizeof(float));
    if (self->cuts == NULL || self->leaves == NULL || self->values == NULL)
        return -1;
    cut = self->cuts;
    for (uint32_t tree = 0; tree < count; tree++) {
        if (self->leaf_start[tree] != NOWHERE)
            cut_below(nodes, roots[tree], 0, &cut, self->leaves + self->leaf_start[tree]);
        self->cut_start[tree + 1] = (uint32_t)(cut - self->cuts);
    }
    for (size_t at = 0; values != NULL && at < leaves; at++)
        self->values[at] = values[self->leaves[at]];
    return 0;
}
