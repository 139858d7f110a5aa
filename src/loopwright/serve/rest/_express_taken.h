/* `Taken`: requests that a lane has gathered, and who gets their responses. */

#include "_express_responses.h"

/* Write a response to each connection: the given one, or that of its rows. Each is answered, whatever fails. */
static void
give_answers(TakenObject *self, PyObject *same, Column *columns, double now)
{
    Entry *entries = self->entries;
    Py_ssize_t entry_count = self->count, first = 0;
    self->entries = NULL;
    self->count = 0;
    for (Py_ssize_t at = 0; at < entry_count; at++) {
        ConnectionObject *connection = entries[at].connection;
        PyObject *response =
            same != NULL ? Py_NewRef(same) : next_response(self->lane, &entries[at], columns, first);
        if (response == NULL || write_to(connection, response) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        if (answered(connection, now) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(response);
        first += entries[at].rows;
        forget(&entries[at]);
    }
    PyMem_Free(entries);
}

/* A column's texts, which are as many as there are rows. */
static int
set_texts(Column *column, PyObject *text, Py_ssize_t rows)
{
    Py_ssize_t commas = 0;
    if (!PyBytes_CheckExact(text) || PyBytes_GET_SIZE(text) < 3) {
        PyErr_SetString(PyExc_TypeError, "a column is a list of values in JSON, as bytes");
        return -1;
    }
    column->at = PyBytes_AS_STRING(text) + 1;
    column->end = PyBytes_AS_STRING(text) + PyBytes_GET_SIZE(text) - 1;
    for (const char *sign = column->at; sign < column->end; sign++)
        commas += *sign == ',';
    if (commas != rows - 1) {
        PyErr_Format(PyExc_ValueError, "a column has %zd values for %zd rows", commas + 1, rows);
        return -1;
    }
    return 0;
}

static int
set_raw(Column *column, PyObject *raw, Py_ssize_t rows)
{
    if (!PyBytes_CheckExact(raw) || PyBytes_GET_SIZE(raw) == 0 || PyBytes_GET_SIZE(raw) % rows) {
        PyErr_SetString(PyExc_ValueError, "an output has as many bytes for each row");
        return -1;
    }
    column->raw = PyBytes_AS_STRING(raw);
    column->row = PyBytes_GET_SIZE(raw) / rows;
    return 0;
}

static PyObject *
taken_respond(TakenObject *self, PyObject *args)
{
    PyObject *texts, *raws;
    Column columns[MOST_TEXTS] = {0};
    Py_ssize_t count, given;
    double now;
    if (!PyArg_ParseTuple(args, "O!O!d", &PyTuple_Type, &texts, &PyTuple_Type, &raws, &now))
        return NULL;
    count = self->lane->columns;
    given = PyTuple_GET_SIZE(texts);
    if (given != (self->has_json ? count : 1) || PyTuple_GET_SIZE(raws) != (self->has_raw ? count - 1 : 0))
        return PyErr_Format(PyExc_ValueError, "%zd columns for a template of %zd", given, count);
    for (Py_ssize_t at = 0; at < given; at++) /* the ids are the last, or the only ones */
        if (set_texts(&columns[count - given + at], PyTuple_GET_ITEM(texts, at), self->rows) < 0)
            return NULL;
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(raws); at++)
        if (set_raw(&columns[at], PyTuple_GET_ITEM(raws, at), self->rows) < 0)
            return NULL;
    for (Py_ssize_t at = 0; at < self->count; at++)
        if (self->entries[at].form != NULL && !fits(self->entries[at].form, columns, count))
            return PyErr_Format(PyExc_ValueError, "request %zd has a form for another template", at);
    give_answers(self, NULL, columns, now);
    Py_RETURN_NONE;
}

static PyObject *
taken_refuse(TakenObject *self, PyObject *args)
{
    PyObject *response;
    double now;
    if (!PyArg_ParseTuple(args, "Sd", &response, &now))
        return NULL;
    give_answers(self, response, NULL, now);
    Py_RETURN_NONE;
}

static PyObject *
taken_apart(TakenObject *self, PyObject *Py_UNUSED(nothing))
{
    PyObject *found = PyList_New(0);
    Py_ssize_t start = 0, row = self->lane->width * (Py_ssize_t)sizeof(double);
    for (Py_ssize_t at = 0; found != NULL && at < self->count; at++) {
        Entry *entry = &self->entries[at];
        TakenObject *one = PyObject_GC_New(TakenObject, TakenType);
        if (one == NULL) {
            Py_CLEAR(found);
            break;
        }
        one->lane = (LaneObject *)Py_NewRef((PyObject *)self->lane);
        one->rows = entry->rows;
        one->count = 0;
        one->values = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self->values) + start * row, entry->rows * row);
        one->entries = PyMem_Malloc(sizeof(Entry));
        PyObject_GC_Track(one);
        if (one->values == NULL || one->entries == NULL || PyList_Append(found, (PyObject *)one) < 0)
            Py_CLEAR(found);
        start += entry->rows;
        Py_DECREF(one);
    }
    if (found == NULL)
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < self->count; at++) {
        TakenObject *one = (TakenObject *)PyList_GET_ITEM(found, at);
        one->entries[0] = self->entries[at];
        one->count = 1;
        note_forms(one);
    }
    self->count = 0;
    return found;
}

static PyObject *
taken_counts(TakenObject *self, void *Py_UNUSED(closure))
{
    PyObject *found = PyList_New(self->count);
    for (Py_ssize_t at = 0; found != NULL && at < self->count; at++)
        PyList_SET_ITEM(found, at, PyLong_FromSsize_t(self->entries[at].rows));
    return found;
}

static PyObject *
taken_started(TakenObject *self, void *Py_UNUSED(closure))
{
    PyObject *found = PyList_New(self->count);
    for (Py_ssize_t at = 0; found != NULL && at < self->count; at++)
        PyList_SET_ITEM(found, at, PyLong_FromLongLong(self->entries[at].started_ns));
    return found;
}

static int
taken_traverse(TakenObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->lane);
    for (Py_ssize_t at = 0; at < self->count; at++)
        Py_VISIT(self->entries[at].connection);
    return 0;
}

static int
taken_clear(TakenObject *self)
{
    Py_CLEAR(self->lane);
    while (self->count > 0)
        forget(&self->entries[--self->count]);
    return 0;
}

static void
taken_dealloc(TakenObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    taken_clear(self);
    Py_XDECREF(self->values);
    PyMem_Free(self->entries);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef taken_members[] = {
    {"rows", T_PYSSIZET, offsetof(TakenObject, rows), READONLY, "Of all requests."},
    {"has_json", T_BOOL, offsetof(TakenObject, has_json), READONLY, "Whether somebody wants outputs in JSON."},
    {"has_raw", T_BOOL, offsetof(TakenObject, has_raw), READONLY, "Whether somebody wants outputs in bytes."},
    {"is_single", T_BOOL, offsetof(TakenObject, is_single), READONLY, "Whether all values came as float32."},
    {"values", T_OBJECT, offsetof(TakenObject, values), READONLY, "Floats of 64 bits, row by row."},
    {NULL},
};

static PyGetSetDef taken_getset[] = {
    {"counts", (getter)taken_counts, NULL, "How many rows each request has.", NULL},
    {"started_ns", (getter)taken_started, NULL, "When each request had arrived, on the monotonic clock.", NULL},
    {NULL},
};

static PyMethodDef taken_methods[] = {
    {"respond", (PyCFunction)taken_respond, METH_VARARGS, "Answer each request with its rows' values."},
    {"refuse", (PyCFunction)taken_refuse, METH_VARARGS, "Answer each request with the same response."},
    {"apart", (PyCFunction)taken_apart, METH_NOARGS, "The requests one by one; this one has none then."},
    {NULL},
};

static PyType_Slot taken_slots[] = {
    {Py_tp_doc, "Requests that a lane has gathered."},
    {Py_tp_traverse, taken_traverse},
    {Py_tp_clear, taken_clear},
    {Py_tp_dealloc, taken_dealloc},
    {Py_tp_members, taken_members},
    {Py_tp_methods, taken_methods},
    {Py_tp_getset, taken_getset},
    {0, NULL},
};

static PyType_Spec taken_spec = {"loopwright.serve.rest._express.Taken", sizeof(TakenObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 taken_slots};
