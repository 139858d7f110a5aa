/* `Lane`: the requests to one endpoint that arrive in one turn of the event loop. */

#include "_express_types.h"

/* Cut the template at its marks. */
static int
cut_template(LaneObject *self)
{
    const char *at = PyBytes_AS_STRING(self->template), *end = at + PyBytes_GET_SIZE(self->template);
    const char *start = at;
    Py_ssize_t count = 0;
    self->columns = self->text_size = 0;
    for (; at <= end; at++) {
        char mark = at < end ? *at : 0;
        if (at < end && mark != ROWS_MARK && mark != VALUES_MARK)
            continue;
        if (count > 2 * MOST_TEXTS || self->columns + (mark == VALUES_MARK) > MOST_TEXTS) {
            PyErr_SetString(PyExc_ValueError, "the template has too many columns");
            return -1;
        }
        self->pieces[count++] = (Piece){start, at - start, mark};
        self->text_size += at - start;
        self->columns += mark == VALUES_MARK;
        start = at + 1;
    }
    return 0;
}

static int
lane_init(LaneObject *self, PyObject *args, PyObject *named)
{
    static char *names[] = {"wake", "hurry", "width", "template", "refusal", "most_rows", "most_waiting", "turn_requests", "burst_s", "shed_s", "calm_s", "reading_s", NULL};
    PyObject *wake, *hurry, *template, *refusal;
    double burst_s, shed_s, calm_s, reading_s;
    if (!PyArg_ParseTupleAndKeywords(args, named, "OOnSSnnndddd", names, &wake, &hurry, &self->width, &template, &refusal,
                                     &self->most_rows, &self->most_waiting, &self->turn_requests, &burst_s, &shed_s,
                                     &calm_s, &reading_s))
        return -1;
    if (self->width < 1 || self->turn_requests < 1) {
        PyErr_SetString(PyExc_ValueError, "a row has at least one value, and a turn one request");
        return -1;
    }
    Py_XSETREF(self->wake, Py_NewRef(wake));
    Py_XSETREF(self->hurry, Py_NewRef(hurry));
    Py_XSETREF(self->template, Py_NewRef(template));
    Py_XSETREF(self->refusal, Py_NewRef(refusal));
    self->burst_ns = (int64_t)(burst_s * 1e9);
    self->shed_ns = (int64_t)(shed_s * 1e9);
    self->calm_ns = (int64_t)(calm_s * 1e9);
    self->most_reading_ns = (int64_t)(reading_s * 1e9);
    self->refused_ns = INT64_MIN / 2;
    self->many_rows = self->few_rows = self->overload_rows = self->late_rows = PY_SSIZE_T_MAX;
    if (cut_template(self) < 0)
        return -1;
    self->is_open = 1;
    return 0;
}

static PyObject *
lane_take(LaneObject *self, PyObject *args)
{
    Py_ssize_t most, most_rows, count = 0, rows = 0, values;
    TakenObject *taken;
    if (!PyArg_ParseTuple(args, "nn", &most, &most_rows))
        return NULL;
    while (count < self->count && count < most && (count == 0 || rows + self->entries[count].rows <= most_rows))
        rows += self->entries[count++].rows;
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "nothing waits in this lane");
        return NULL;
    }
    taken = PyObject_GC_New(TakenObject, TakenType);
    if (taken == NULL)
        return NULL;
    values = rows * self->width;
    taken->count = 0;
    taken->rows = rows;
    taken->lane = (LaneObject *)Py_NewRef((PyObject *)self);
    taken->values = PyBytes_FromStringAndSize((char *)self->values, values * (Py_ssize_t)sizeof(double));
    taken->entries = PyMem_Malloc((size_t)count * sizeof(Entry));
    PyObject_GC_Track(taken);
    if (taken->values == NULL || taken->entries == NULL) {
        Py_DECREF(taken);
        return PyErr_NoMemory();
    }
    memcpy(taken->entries, self->entries, (size_t)count * sizeof(Entry));
    taken->count = count;
    note_forms(taken);
    self->hurried_ns = now_ns();
    self->count -= count;
    self->filled -= values;
    memmove(self->entries, self->entries + count, (size_t)self->count * sizeof(Entry));
    memmove(self->values, self->values + values, (size_t)self->filled * sizeof(double));
    if (self->values_room > KEPT_VALUES && self->filled < KEPT_VALUES) {
        double *kept = PyMem_Realloc(self->values, KEPT_VALUES * sizeof(double));
        if (kept != NULL) {
            self->values = kept;
            self->values_room = KEPT_VALUES;
        }
    }
    return (PyObject *)taken;
}

static PyObject *
lane_bound(LaneObject *self, PyObject *args)
{
    if (!PyArg_ParseTuple(args, "nnnn", &self->many_rows, &self->few_rows, &self->overload_rows, &self->late_rows))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
lane_take_shed(LaneObject *self, PyObject *Py_UNUSED(nothing))
{
    Py_ssize_t shed = self->shed;
    self->shed = 0;
    return PyLong_FromSsize_t(shed);
}

static int
lane_traverse(LaneObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->wake);
    Py_VISIT(self->hurry);
    for (Py_ssize_t at = 0; at < self->count; at++)
        Py_VISIT(self->entries[at].connection);
    return 0;
}

static int
lane_clear(LaneObject *self)
{
    Py_CLEAR(self->wake);
    Py_CLEAR(self->hurry);
    while (self->count > 0)
        forget(&self->entries[--self->count]);
    return 0;
}

static void
lane_dealloc(LaneObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    lane_clear(self);
    Py_XDECREF(self->template);
    Py_XDECREF(self->refusal);
    PyMem_Free(self->entries);
    PyMem_Free(self->values);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef lane_members[] = {
    {"waiting", T_PYSSIZET, offsetof(LaneObject, count), READONLY, "Requests that nobody has taken yet."},
    {"reading_ns", T_LONGLONG, offsetof(LaneObject, reading_ns), 0, "Since when this turn has read; 0 when it is over."},
    {"is_open", T_BOOL, offsetof(LaneObject, is_open), 0, "Whether it takes requests."},
    {"has_forms", T_BOOL, offsetof(LaneObject, has_forms), 0, "Whether heads that lead here may have forms, too."},
    {NULL},
};

static PyMethodDef lane_methods[] = {
    {"take", (PyCFunction)lane_take, METH_VARARGS, "The first requests: so many at most, with so many rows."},
    {"bound", (PyCFunction)lane_bound, METH_VARARGS,
     "How many rows may wait: with many requests, with few, while requests are refused, and late in such a turn."},
    {"take_shed", (PyCFunction)lane_take_shed, METH_NOARGS, "How many were refused since this was last asked."},
    {NULL},
};

static PyType_Slot lane_slots[] = {
    {Py_tp_doc, "Requests to one endpoint that arrive in one turn of the event loop."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, lane_init},
    {Py_tp_traverse, lane_traverse},
    {Py_tp_clear, lane_clear},
    {Py_tp_dealloc, lane_dealloc},
    {Py_tp_members, lane_members},
    {Py_tp_methods, lane_methods},
    {0, NULL},
};

static PyType_Spec lane_spec = {"loopwright.serve.rest._express.Lane", sizeof(LaneObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, lane_slots};
