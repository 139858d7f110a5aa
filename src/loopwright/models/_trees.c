/* Ensembles of decision trees, for many rows at once.

   trees.py reads an ensemble of an ONNX graph and lays its nodes out; here they are checked, and then walked. A number
   becomes a key first: an unsigned integer in the order of the floats, with -0 as 0 and every NaN above all. A node
   asks whether a key lies in an interval, which may wrap around: `key - low <= width`. That says <=, <, >=, >, ==, !=
   and where a missing value goes. The two children of a node are neighbours behind it, so that the answer, 0 or 1,
   leads to the next node without a branch, and no chain of nodes can be a circle. A leaf leads to itself.

   The scores are added in the order of the trees, in float32, as ONNX Runtime does it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, WALKED = 8, MOST_TARGETS = 1024, MOST_THREADS = 64, ROWS_A_THREAD = 1024, BLOCK = 128, FEW = 4 };
enum { VALUE, POSITIVE, LOGISTIC, RAW, MANY, MANY_LOGISTIC, MANY_SOFTMAX, FORMS };
#define MOST_NODES (1u << 28)
#define HELD_STEPS 50000.0 /* of nodes in a call: beyond, other threads of Python may run meanwhile */

typedef struct {
    uint32_t low, width, feature, child;
} Node; /* `feature` is where its key lies in a block of sixteen rows */

#include "_trees_cuts.h"

typedef struct {
    PyObject_HEAD
    Node *nodes;
    uint32_t *roots, *depths, *columns; /* of each tree; the columns of the input that are read */
    uint32_t *first, *targets;          /* the weights of node n are first[n] to first[n + 1] */
    float *weights, *values, *base;     /* `values`: the only weight of each node, where there is one target */
    int64_t *classes;
    uint32_t node_count, tree_count, column_count, weight_count, width, target_count, score_count;
    int form, averages;
    Cuts upper;
} Trees;

typedef struct {
    const Trees *trees;
    const float *rows;
    float *scores;
    int64_t *labels;
    Py_ssize_t count;
    int failed;
} Work;

static uint32_t
key_of(float number)
{
    uint32_t bits;
    number += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &number, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0xffffffffu;
    return bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
}

#define STEP(AT, LANE)                                                                                                 \
    do {                                                                                                               \
        const Node *node = nodes + AT;                                                                                 \
        AT = node->child + (keys[node->feature + LANE] - node->low <= node->width);                                    \
    } while (0)

/* The leaves that eight rows reach from a node each. */
static inline void
walk_rows(const Node *nodes, const uint32_t *keys, uint32_t depth, uint32_t *found)
{
    uint32_t a = found[0], b = found[1], c = found[2], d = found[3];
    uint32_t e = found[4], f = found[5], g = found[6], h = found[7];
    while (depth) {
        uint32_t steps = depth < 12 ? depth : 8;
        uint32_t was[WALKED] = {a, b, c, d, e, f, g, h};
        for (depth -= steps; steps; steps--) {
            STEP(a, 0); STEP(b, 1); STEP(c, 2); STEP(d, 3); STEP(e, 4); STEP(f, 5); STEP(g, 6); STEP(h, 7);
        }
        if (depth && a == was[0] && b == was[1] && c == was[2] && d == was[3] && e == was[4] && f == was[5] &&
            g == was[6] && h == was[7])
            break; /* all in leaves, far above the deepest one */
    }
    found[0] = a; found[1] = b; found[2] = c; found[3] = d; found[4] = e; found[5] = f; found[6] = g; found[7] = h;
}

/* The leaves that one row reaches in eight trees. */
static inline void
walk_trees(const Node *nodes, const uint32_t *keys, const uint32_t *roots, uint32_t depth, uint32_t *found)
{
    uint32_t a = roots[0], b = roots[1], c = roots[2], d = roots[3];
    uint32_t e = roots[4], f = roots[5], g = roots[6], h = roots[7];
    for (; depth; depth--) {
        STEP(a, 0); STEP(b, 0); STEP(c, 0); STEP(d, 0); STEP(e, 0); STEP(f, 0); STEP(g, 0); STEP(h, 0);
    }
    found[0] = a; found[1] = b; found[2] = c; found[3] = d; found[4] = e; found[5] = f; found[6] = g; found[7] = h;
}

static inline void
add_leaf(const Trees *self, uint32_t node, float *sums)
{
    if (self->values != NULL)
        sums[0] += self->values[node];
    else
        for (uint32_t at = self->first[node]; at < self->first[node + 1]; at++)
            sums[self->targets[at]] += self->weights[at];
}

static inline void
load_keys(const Trees *self, const float *rows, int count, uint32_t *keys)
{
    for (int row = 0; row < count; row++)
        for (uint32_t at = 0; at < self->column_count; at++)
            keys[at * LANES + row] = key_of(rows[(size_t)row * self->width + self->columns[at]]);
}

/* As ONNX Runtime's tree operators compute it. */
static float
logistic(float number)
{
    float value = 1.0f / (1.0f + expf(-fabsf(number)));
    return number < 0.0f ? 1.0f - value : value;
}

static void
softmax(float *scores, uint32_t count)
{
    float most = -3.402823466e+38f, sum = 0.0f;
    for (uint32_t at = 0; at < count; at++)
        if (scores[at] > most)
            most = scores[at];
    for (uint32_t at = 0; at < count; at++) {
        scores[at] = expf(scores[at] - most);
        sum += scores[at];
    }
    for (uint32_t at = 0; at < count; at++)
        scores[at] /= sum;
}

/* From the sums of a row to its scores and its label. */
static void
finish(const Trees *self, float *sums, float *scores, int64_t *label)
{
    uint32_t best = 0;
    for (uint32_t at = 0; at < self->target_count; at++) {
        if (self->averages)
            sums[at] /= (float)self->tree_count;
        if (self->base != NULL)
            sums[at] += self->base[at];
    }
    if (self->form == VALUE) {
        scores[0] = sums[0];
        return;
    }
    if (self->form < MANY) {
        float sum = sums[0], other;
        other = self->form == POSITIVE ? 1.0f - sum : self->form == LOGISTIC ? logistic(-sum) : -sum;
        scores[0] = self->form == LOGISTIC ? logistic(sum) : sum;
        *label = self->classes[scores[0] > other];
        return;
    }
    if (self->form == MANY_SOFTMAX)
        softmax(sums, self->target_count);
    for (uint32_t at = 0; at < self->target_count; at++) {
        if (self->form == MANY_LOGISTIC)
            sums[at] = logistic(sums[at]);
        if (sums[at] > sums[best])
            best = at;
    }
    *label = self->classes[best];
    if (self->score_count == 1)
        scores[0] = sums[1];
    else
        memcpy(scores, sums, self->target_count * sizeof(float));
}

static void
score_one(const Trees *self, const float *row, uint32_t *keys, float *sums, float *scores, int64_t *label)
{
    uint32_t found[WALKED], roots[WALKED];
    memset(sums, 0, self->target_count * sizeof(float));
    load_keys(self, row, 1, keys);
    for (uint32_t tree = 0; tree < self->tree_count; tree += WALKED) {
        uint32_t count = self->tree_count - tree < WALKED ? self->tree_count - tree : WALKED, depth = 0;
        for (uint32_t lane = 0; lane < WALKED; lane++) {
            uint32_t at = tree + (lane < count ? lane : 0);
            roots[lane] = self->roots[at];
            depth = self->depths[at] > depth ? self->depths[at] : depth;
        }
        walk_trees(self->nodes, keys, roots, depth, found);
        for (uint32_t lane = 0; lane < count; lane++)
            add_leaf(self, found[lane], sums);
    }
    finish(self, sums, scores, label);
}

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDTH 16
#define TARGET __attribute__((target("avx512f")))
#define NAME(NAMED) NAMED##_avx512
#define GATHER(PLACES, VALUES) _mm512_i32gather_ps(_mm512_loadu_si512(PLACES), VALUES, 4)
#include "_trees_rows.h"
#define WIDTH 8
#define TARGET __attribute__((target("avx2")))
#define NAME(NAMED) NAMED##_avx2
#include "_trees_rows.h"
#endif
#define WIDTH 4
#define TARGET
#define NAME(NAMED) NAMED##_plain
#include "_trees_rows.h"

static void (*score_block)(const Trees *, const float *, Py_ssize_t, uint32_t *, float *) = score_block_plain;

/* Choose what this machine does best; LOOPWRIGHT_VECTORS=avx2 or plain has it do less. */
static void
choose_vectors(void)
{
#if defined(__x86_64__)
    const char *most = getenv("LOOPWRIGHT_VECTORS");
    int is_wide = most == NULL || strcmp(most, "plain");
    __builtin_cpu_init();
    if (is_wide && __builtin_cpu_supports("avx2"))
        score_block = score_block_avx2;
    if (most == NULL && __builtin_cpu_supports("avx512f"))
        score_block = score_block_avx512;
#endif
}

static void *
score_rows(void *given)
{
    Work *work = given;
    const Trees *self = work->trees;
    Py_ssize_t most = self->column_count > 512 ? LANES : BLOCK; /* so that their keys stay in the cache */
    Py_ssize_t block = work->count < most ? (work->count + LANES - 1) / LANES * LANES : most;
    uint32_t keys_here[512 * LANES], *keys = keys_here;
    float sums_here[1024], *sums = sums_here;
    size_t keys_size = (size_t)self->column_count * block, sums_size = (size_t)self->target_count * block;
    int64_t ignored;
    if (keys_size > 512 * LANES || sums_size > 1024) {
        keys = calloc(keys_size + 1, sizeof(uint32_t));
        sums = calloc(sums_size + 1, sizeof(float));
    } else if (work->count % LANES)
        memset(keys, 0, keys_size * sizeof(uint32_t)); /* lanes without a row walk, too */
    work->failed = keys == NULL || sums == NULL;
    for (Py_ssize_t start = 0; !work->failed && start < work->count; start += block) {
        Py_ssize_t count = work->count - start < block ? work->count - start : block;
        const float *rows = work->rows + (size_t)start * self->width;
        for (Py_ssize_t at = 0; count < FEW && at < count; at++)
            score_one(self, rows + (size_t)at * self->width, keys, sums,
                      work->scores + (size_t)(start + at) * self->score_count,
                      work->labels ? work->labels + start + at : &ignored);
        if (count < FEW)
            continue;
        score_block(self, rows, count, keys, sums);
        for (Py_ssize_t at = 0; at < count; at++)
            finish(self, sums + (size_t)at * self->target_count,
                   work->scores + (size_t)(start + at) * self->score_count,
                   work->labels ? work->labels + start + at : &ignored);
    }
    if (keys != keys_here) {
        free(keys);
        free(sums);
    }
    return NULL;
}

/* All rows, shared out among threads where there are many of both. */
static int
score_all(const Work *all, int threads)
{
    Work parts[MOST_THREADS];
    pthread_t running[MOST_THREADS];
    int started[MOST_THREADS], failed = 0;
    Py_ssize_t most = all->count / ROWS_A_THREAD, at = 0;
    int count = most < threads ? (most ? (int)most : 1) : threads;
    for (int part = 0; part < count; part++) {
        Py_ssize_t end = part == count - 1 ? all->count : all->count / count / LANES * LANES * (part + 1);
        parts[part] = *all;
        parts[part].rows += (size_t)at * all->trees->width;
        parts[part].scores += (size_t)at * all->trees->score_count;
        if (all->labels != NULL)
            parts[part].labels += at;
        parts[part].count = end - at;
        at = end;
        started[part] = part && pthread_create(&running[part], NULL, score_rows, &parts[part]) == 0;
    }
    for (int part = 0; part < count; part++) {
        if (started[part])
            pthread_join(running[part], NULL);
        else
            score_rows(&parts[part]);
        failed |= parts[part].failed;
    }
    return failed;
}

static int
take_output(PyObject *given, Py_buffer *view, size_t size)
{
    if (PyObject_GetBuffer(given, view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if ((size_t)view->len != size) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "an output has another size than the rows have answers");
        return -1;
    }
    return 0;
}

static PyObject *
trees_score(Trees *self, PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer rows, scores, labels = {0};
    PyObject *answer = NULL;
    Work work = {self, NULL, NULL, NULL, 0, 0};
    long threads;
    int failed, has_labels;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "score takes rows, scores, labels or None, threads");
        return NULL;
    }
    has_labels = args[2] != Py_None;
    threads = PyLong_AsLong(args[3]);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    if (PyObject_GetBuffer(args[0], &rows, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    if (rows.ndim != 2 || rows.itemsize != sizeof(float) || rows.format == NULL || strcmp(rows.format, "f") ||
        rows.shape[1] != (Py_ssize_t)self->width) {
        PyErr_SetString(PyExc_ValueError, "the rows are no matrix of float32 of the trees' width");
        goto no_rows;
    }
    work.count = rows.shape[0];
    if (take_output(args[1], &scores, (size_t)work.count * self->score_count * sizeof(float)) < 0)
        goto no_rows;
    if (has_labels && take_output(args[2], &labels, (size_t)work.count * sizeof(int64_t)) < 0)
        goto no_labels;
    work.rows = rows.buf;
    work.scores = scores.buf;
    work.labels = labels.buf;
    if ((double)work.count * self->tree_count > HELD_STEPS / 8) {
        Py_BEGIN_ALLOW_THREADS
        failed = score_all(&work, (int)threads);
        Py_END_ALLOW_THREADS
    } else {
        score_rows(&work);
        failed = work.failed;
    }
    answer = failed ? PyErr_NoMemory() : Py_NewRef(Py_None);
    if (has_labels)
        PyBuffer_Release(&labels);
no_labels:
    PyBuffer_Release(&scores);
no_rows:
    PyBuffer_Release(&rows);
    return answer;
}

/* A copy of an array that came as bytes; `count` becomes the number of its items. */
static void *
copy_of(const Py_buffer *view, size_t item, uint32_t *count)
{
    void *copy = NULL;
    if (view->len % item || view->len / item > MOST_NODES)
        PyErr_SetString(PyExc_ValueError, "an array of trees has a wrong size");
    else if ((copy = malloc(view->len + item)) == NULL)
        PyErr_NoMemory();
    else
        memcpy(copy, view->buf, view->len);
    *count = (uint32_t)(view->len / item);
    return copy;
}

/* What is wrong with the trees; NULL if a walk can leave none of the arrays and comes to an end. */
static const char *
fault_of(Trees *self, uint32_t firsts, uint32_t targets, uint32_t bases, uint32_t classes)
{
    uint32_t *depth = self->depths;
    if (!self->node_count || !self->tree_count || !self->width || self->width > MOST_NODES / LANES)
        return "there are no trees";
    if (self->form < 0 || self->form >= FORMS || !self->target_count || self->target_count > MOST_TARGETS)
        return "the form or the number of targets is unknown";
    if (self->form < MANY ? self->target_count != 1 : self->target_count < 2)
        return "the form does not fit the number of targets";
    if (self->score_count != 1 && (self->form < MANY || self->score_count != self->target_count))
        return "the number of scores does not fit";
    if (self->form != VALUE && classes != (self->form < MANY ? 2 : self->target_count))
        return "there are too few classes, or too many";
    if (bases != 0 && bases != self->target_count)
        return "there are too few base values, or too many";
    if (firsts != self->node_count + 1 || targets != self->weight_count || self->first[0] != 0 ||
        self->first[self->node_count] != self->weight_count)
        return "the weights do not fit the nodes";
    for (uint32_t at = 0; at < self->weight_count; at++)
        if (self->targets[at] >= self->target_count)
            return "a weight is for a target that is not there";
    for (uint32_t at = 0; at < self->column_count; at++)
        if (self->columns[at] >= self->width)
            return "a node reads a column that is not there";
    for (uint32_t at = self->node_count; at-- > 0;) {
        const Node *node = self->nodes + at;
        int is_leaf = node->child == at;
        if (self->first[at] > self->first[at + 1] || node->feature >= self->column_count)
            return "a node reads a weight or a column that is not there";
        if (is_leaf ? node->low || node->width : node->child <= at || node->child >= self->node_count - 1)
            return "a node leads to a wrong one";
        depth[at] = 0;
        if (!is_leaf)
            depth[at] = 1 + (depth[node->child] > depth[node->child + 1] ? depth[node->child] : depth[node->child + 1]);
        if (self->target_count == 1 && self->first[at + 1] - self->first[at] != (uint32_t)is_leaf)
            return "a node has another number of weights than one";
    }
    for (uint32_t at = 0; at < self->tree_count; at++)
        if (self->roots[at] >= self->node_count)
            return "a tree begins nowhere";
    return NULL;
}

/* Depths of trees in place of those of nodes, the places of keys in place of columns, values by node, cuts. */
static int
arrange(Trees *self)
{
    uint32_t *depths = malloc((self->tree_count + 1) * sizeof(uint32_t)), *of_nodes = self->depths;
    int failed;
    if (depths == NULL)
        return -1;
    for (uint32_t at = 0; at < self->tree_count; at++)
        depths[at] = of_nodes[self->roots[at]];
    for (uint32_t at = 0; at < self->node_count; at++)
        self->nodes[at].feature *= LANES;
    if (self->target_count == 1 && (self->values = calloc(self->node_count, sizeof(float))) == NULL) {
        free(depths);
        return -1;
    }
    for (uint32_t at = 0; self->values != NULL && at < self->node_count; at++)
        if (self->first[at] < self->first[at + 1])
            self->values[at] = self->weights[self->first[at]];
    failed = make_cuts(&self->upper, self->nodes, self->node_count, of_nodes, self->roots, self->tree_count, self->values);
    free(of_nodes);
    self->depths = depths;
    return failed;
}

static void
trees_dealloc(Trees *self)
{
    PyTypeObject *type = Py_TYPE(self);
    void *held[] = {self->nodes,   self->roots,  self->depths, self->columns, self->first,
                    self->targets, self->weights, self->values, self->base,    self->classes};
    for (size_t at = 0; at < sizeof(held) / sizeof(held[0]); at++)
        free(held[at]);
    free_cuts(&self->upper);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
trees_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named))
{
    Py_buffer views[8];
    unsigned int width, targets, scores;
    uint32_t counts[8] = {0};
    int form, averages;
    const char *fault;
    Trees *self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*IIIip", &views[0], &views[1], &views[2], &views[3], &views[4],
                          &views[5], &views[6], &views[7], &width, &targets, &scores, &form, &averages))
        return NULL;
    self = (Trees *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->nodes = copy_of(&views[0], sizeof(Node), &counts[0]);
        self->roots = copy_of(&views[1], sizeof(uint32_t), &counts[1]);
        self->columns = copy_of(&views[2], sizeof(uint32_t), &counts[2]);
        self->first = copy_of(&views[3], sizeof(uint32_t), &counts[3]);
        self->targets = copy_of(&views[4], sizeof(uint32_t), &counts[4]);
        self->weights = copy_of(&views[5], sizeof(float), &counts[5]);
        self->base = copy_of(&views[6], sizeof(float), &counts[6]);
        self->classes = copy_of(&views[7], sizeof(int64_t), &counts[7]);
        self->depths = calloc((size_t)counts[0] + 1, sizeof(uint32_t));
    }
    for (int at = 0; at < 8; at++)
        PyBuffer_Release(&views[at]);
    if (self == NULL)
        return NULL;
    if (PyErr_Occurred() || self->depths == NULL) {
        Py_DECREF(self);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    self->node_count = counts[0], self->tree_count = counts[1], self->column_count = counts[2];
    self->weight_count = counts[5], self->width = width, self->target_count = targets, self->score_count = scores;
    self->form = form, self->averages = averages;
    fault = fault_of(self, counts[3], counts[4], counts[6], counts[7]);
    if (fault == NULL && arrange(self) < 0)
        PyErr_NoMemory();
    else if (fault != NULL)
        PyErr_SetString(PyExc_ValueError, fault);
    if (PyErr_Occurred()) {
        Py_DECREF(self);
        return NULL;
    }
    if (counts[6] == 0) {
        free(self->base);
        self->base = NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef trees_methods[] = {
    {"score", (PyCFunction)(void (*)(void))trees_score, METH_FASTCALL,
     "score(rows, scores, labels, threads): write the scores and, if labels is not None, the classes of the rows."},
    {NULL},
};

static PyType_Slot trees_slots[] = {
    {Py_tp_doc, "Trees that were checked: nodes, roots, columns, first, targets, weights, base, classes; width, ..."},
    {Py_tp_new, trees_new},
    {Py_tp_dealloc, trees_dealloc},
    {Py_tp_methods, trees_methods},
    {0, NULL},
};

static PyType_Spec trees_spec = {"loopwright.models._trees.Trees", sizeof(Trees), 0, Py_TPFLAGS_DEFAULT, trees_slots};

static struct PyModuleDef module_def = {PyModuleDef_HEAD_INIT, "_trees", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__trees(void)
{
    PyObject *module = PyModule_Create(&module_def), *type = PyType_FromSpec(&trees_spec);
    choose_vectors();
    if (module == NULL || type == NULL || PyModule_AddObjectRef(module, "Trees", type) < 0) {
        Py_XDECREF(module);
        Py_XDECREF(type);
        return NULL;
    }
    Py_DECREF(type);
    return module;
}
