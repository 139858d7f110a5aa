/* `Taken`: requests that a lane has gathered, and their responses. */

#include "_express_types.h"

typedef struct {
    const char *at, *end;
    const char *values; /* of this request */
    Py_ssize_t size;
} Column;

/* The next values of a column, without brackets: texts between commas. */
static int
next_values(Column *column, Py_ssize_t rows)
{
    const char *at = column->at, *comma = at;
    for (Py_ssize_t row = 0; row < rows; row++) {
        comma = memchr(at, ',', (size_t)(column->end - at));
        if (comma == NULL) {
            if (row + 1 < rows || at >= column->end)
                return -1;
            comma = column->end;
        }
        at = comma < column->end ? comma + 1 : comma;
    }
    column->values = column->at;
    column->size = comma - column->at;
    column->at = at;
    return 0;
}

/* A number that is not negative, in digits, at the end of 20 bytes; where it begins. */
static char *
written(char *end, Py_ssize_t number)
{
    do
        *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* The response for some rows, whose values are the next ones of each column. */
static PyObject *
response_of(LaneObject *lane, Column *columns, Py_ssize_t rows)
{
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    char counted[20], length[20], *digits = written(counted + 20, rows), *size;
    Py_ssize_t body = lane->text_size, column = 0;
    PyObject *response;
    char *out;
    for (column = 0; column < lane->columns; column++) {
        if (next_values(&columns[column], rows) < 0) {
            PyErr_SetString(PyExc_ValueError, "a column has too few values");
            return NULL;
        }
        body += columns[column].size;
    }
    for (Piece *piece = lane->pieces; piece->mark; piece++)
        if (piece->mark == ROWS_MARK)
            body += counted + 20 - digits;
    size = written(length + 20, body);
    response = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sizeof head - 1 + (length + 20 - size) + 4 + body);
    if (response == NULL)
        return NULL;
    out = PyBytes_AS_STRING(response);
#define PUT(from, count) (memcpy(out, from, (size_t)(count)), out += (count))
    PUT(head, sizeof head - 1);
    PUT(size, length + 20 - size);
    PUT("\r\n\r\n", 4);
    column = 0;
    for (Piece *piece = lane->pieces;; piece++) {
        PUT(piece->start, piece->size);
        if (piece->mark == ROWS_MARK)
            PUT(digits, counted + 20 - digits);
        else if (piece->mark == VALUES_MARK) {
            PUT(columns[column].values, columns[column].size);
            column++;
        } else
            break;
    }
#undef PUT
    return response;
}

/* Write a response to each connection: the given one, or that of its rows. Each is answered, whatever fails. */
static void
give_answers(TakenObject *self, PyObject *same, Column *columns, double now)
{
    Entry *entries = self->entries;
    Py_ssize_t entry_count = self->count;
    self->entries = NULL;
    self->count = 0;
    for (Py_ssize_t at = 0; at < entry_count; at++) {
        ConnectionObject *connection = entries[at].connection;
        PyObject *response =
            same != NULL ? Py_NewRef(same) : response_of(self->lane, columns, entries[at].rows);
        if (response == NULL || write_to(connection, response) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        if (answered(connection, now) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(response);
        Py_DECREF(connection);
    }
    PyMem_Free(entries);
}

static PyObject *
taken_respond(TakenObject *self, PyObject *args)
{
    PyObject *texts;
    Column columns[MOST_TEXTS];
    Py_ssize_t count;
    double now;
    if (!PyArg_ParseTuple(args, "O!d", &PyTuple_Type, &texts, &now))
        return NULL;
    count = PyTuple_GET_SIZE(texts);
    if (count != self->lane->columns) {
        PyErr_Format(PyExc_ValueError, "%zd columns for a template of %zd", count, self->lane->columns);
        return NULL;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *text = PyTuple_GET_ITEM(texts, at);
        Py_ssize_t commas = 0;
        if (!PyBytes_CheckExact(text) || PyBytes_GET_SIZE(text) < 3) {
            PyErr_SetString(PyExc_TypeError, "a column is a list of values in JSON, as bytes");
            return NULL;
        }
        columns[at].at = PyBytes_AS_STRING(text) + 1;
        columns[at].end = PyBytes_AS_STRING(text) + PyBytes_GET_SIZE(text) - 1;
        for (const char *sign = columns[at].at; sign < columns[at].end; sign++)
            commas += *sign == ',';
        if (commas != self->rows - 1) {
            PyErr_Format(PyExc_ValueError, "column %zd has %zd values for %zd rows", at, commas + 1, self->rows);
            return NULL;
        }
    }
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
        Py_DECREF(self->entries[--self->count].connection);
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
