/* The express lane of HTTP: requests that are alike but for their numbers, without an object for each of them.

   A `Lane` gathers the rows of one endpoint that arrive in one turn of the event loop. `Connection` is the part of a
   connection that reads: what the lane can take, it takes; all else goes to `_received` of the Python class, as it was
   sent. `Taken` is what was gathered, with the places of the answers. See express.py, which has the rest. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <time.h>

#include "_express_json.h"

#define MOST_TEXTS 64
#define MOST_BYTES (256 << 10) /* of a body: longer ones are better off elsewhere */
#define MOST_HELD 16 /* pieces that a client may send behind requests in a lane, before it is read no more */
#define ROWS_MARK 1   /* in a template: the number of rows */
#define VALUES_MARK 2 /* in a template: the values of the next column */

static PyObject *str_lane, *str_length, *str_write, *str_received, *str_released, *str_pause;
static PyTypeObject *LaneType, *TakenType;

static int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ------------------------------------------------------------------ connections */

typedef struct LaneObject LaneObject;

typedef struct {
    PyObject_HEAD
    PyObject *transport; /* None once it is lost */
    PyObject *waiting;   /* a deque: exchanges under way outside of the lane */
    PyObject *known;     /* a dict: heads by their bytes */
    PyObject *held;      /* bytes that came while the lane had requests before them; NULL if there are none */
    LaneObject *lane;    /* which has requests of this connection; NULL if none has */
    Py_ssize_t under_way;
    char in_request, refused, last, closing;
    double since;
} ConnectionObject;

typedef struct {
    ConnectionObject *connection;
    Py_ssize_t rows;
    int64_t started_ns;
} Entry;

typedef struct {
    const char *start; /* text, behind which stands what the mark says; 0 behind the last */
    Py_ssize_t size;
    char mark;
} Piece;

struct LaneObject {
    PyObject_HEAD
    PyObject *wake;     /* is called when the first request of a turn is taken */
    PyObject *refusal;  /* the response to a request that there is no time for */
    PyObject *template; /* of a response's body */
    Piece pieces[2 * MOST_TEXTS + 1]; /* of the template */
    Py_ssize_t columns, text_size;
    Py_ssize_t width, most_rows;              /* values in a row; rows of a request */
    Py_ssize_t turn_requests;                 /* so many may wait, */
    int64_t turn_ns;                          /* or the first of them for so long; with both, more are refused */
    Py_ssize_t count, room, filled, values_room;
    Entry *entries;
    double *values;
    Py_ssize_t shed;
    char is_open;
};

typedef struct {
    PyObject_HEAD
    LaneObject *lane;
    Entry *entries;
    Py_ssize_t count, rows;
    PyObject *values; /* bytes: doubles, row by row */
} TakenObject;

static int
write_to(ConnectionObject *connection, PyObject *response)
{
    PyObject *arguments[] = {connection->transport, response}, *done;
    if (connection->transport == NULL || connection->transport == Py_None)
        return 0;
    done = PyObject_VectorcallMethod(str_write, arguments, 2, NULL);
    if (done == NULL)
        return -1;
    Py_DECREF(done);
    return 0;
}

/* A request of the connection is answered: what was held back until then has its turn. */
static int
answered(ConnectionObject *connection, double now)
{
    PyObject *done;
    int is_open = connection->lane != NULL && connection->lane->is_open;
    connection->since = now;
    if (--connection->under_way > 0)
        return 0;
    Py_CLEAR(connection->lane);
    if (is_open && connection->held == NULL)
        return 0;
    done = PyObject_CallMethodNoArgs((PyObject *)connection, str_released);
    if (done == NULL)
        return -1;
    Py_DECREF(done);
    return 0;
}

static int
make_room(void **items, Py_ssize_t *room, Py_ssize_t wanted, size_t size)
{
    void *grown;
    Py_ssize_t more = *room ? *room : 1024;
    if (wanted <= *room)
        return 0;
    while (more < wanted)
        more *= 2;
    grown = PyMem_Realloc(*items, (size_t)more * size);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *items = grown;
    *room = more;
    return 0;
}

/* What a head says of requests that have it: their lane (borrowed) and the length of their body; NULL for none. */
static LaneObject *
lane_of(ConnectionObject *connection, const char *start, Py_ssize_t size, Py_ssize_t *length)
{
    PyObject *raw, *head, *lane, *number;
    LaneObject *found = NULL;
    raw = PyBytes_FromStringAndSize(start, size);
    if (raw == NULL)
        return NULL;
    head = PyDict_GetItemWithError(connection->known, raw);
    Py_DECREF(raw);
    if (head == NULL || (lane = PyObject_GetAttr(head, str_lane)) == NULL)
        return NULL;
    if (Py_TYPE(lane) == LaneType && ((LaneObject *)lane)->is_open) {
        number = PyObject_GetAttr(head, str_length);
        if (number != NULL) {
            *length = PyLong_AsSsize_t(number);
            Py_DECREF(number);
            if (*length >= 0 && *length <= MOST_BYTES)
                found = (LaneObject *)lane;
        }
    }
    Py_DECREF(lane); /* the head keeps it */
    return found;
}

/* Take one request; 1 if it was taken or refused, 0 if it is not for the lane, -1 for an error. */
static int
take_one(ConnectionObject *connection, LaneObject *lane, const char *body, Py_ssize_t length)
{
    int64_t now = now_ns();
    Py_ssize_t rows;
    Entry *entry;
    PyObject *done;
    if (lane->count >= lane->turn_requests && now - lane->entries[0].started_ns > lane->turn_ns) {
        if (connection->under_way)
            return 0; /* behind those before it */
        lane->shed++;
        return write_to(connection, lane->refusal) < 0 ? -1 : 1;
    }
    if (make_room((void **)&lane->values, &lane->values_room, lane->filled + length / 2 + 1, sizeof(double)) < 0 ||
        make_room((void **)&lane->entries, &lane->room, lane->count + 1, sizeof(Entry)) < 0)
        return -1;
    rows = read_rows(body, length, lane->width, lane->values + lane->filled);
    if (rows == 0 || rows > lane->most_rows)
        return 0;
    entry = &lane->entries[lane->count];
    entry->connection = (ConnectionObject *)Py_NewRef((PyObject *)connection);
    entry->rows = rows;
    entry->started_ns = now;
    lane->filled += rows * lane->width;
    if (connection->under_way++ == 0)
        Py_XSETREF(connection->lane, (LaneObject *)Py_NewRef((PyObject *)lane));
    if (lane->count++ == 0) {
        done = PyObject_CallNoArgs(lane->wake);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    return 1;
}

/* Take the requests for a lane at the beginning of some bytes; how many bytes they have, or -1. */
static Py_ssize_t
take_all(ConnectionObject *connection, const char *start, Py_ssize_t size)
{
    Py_ssize_t taken = 0;
    if (connection->known == NULL || !PyDict_Check(connection->known) || connection->held != NULL ||
        connection->transport == NULL || connection->transport == Py_None)
        return 0;
    if (connection->under_way == 0) {
        Py_ssize_t others = connection->waiting == NULL ? 1 : PyObject_Size(connection->waiting);
        if (others)
            return others < 0 ? -1 : 0;
    }
    while (taken < size) {
        Py_ssize_t length, size_of_head;
        LaneObject *lane;
        int found;
        const char *end = memmem(start + taken, (size_t)(size - taken), "\r\n\r\n", 4);
        if (end == NULL)
            break;
        size_of_head = end + 4 - (start + taken);
        lane = lane_of(connection, start + taken, size_of_head, &length);
        if (lane == NULL) {
            if (PyErr_Occurred())
                return -1;
            break;
        }
        if (length > size - taken - size_of_head || (connection->under_way && connection->lane != lane))
            break;
        Py_INCREF(lane);
        found = take_one(connection, lane, end + 4, length);
        Py_DECREF(lane);
        if (found < 0)
            return -1;
        if (found == 0)
            break;
        taken += size_of_head + length;
        if (connection->closing || connection->transport == Py_None)
            break;
    }
    return taken;
}

static PyObject *
hold(ConnectionObject *connection, PyObject *data)
{
    if (connection->held == NULL && (connection->held = PyList_New(0)) == NULL)
        return NULL;
    if (PyList_Append(connection->held, data) < 0)
        return NULL;
    if (PyList_GET_SIZE(connection->held) == MOST_HELD)
        return PyObject_CallMethodNoArgs((PyObject *)connection, str_pause);
    Py_RETURN_NONE;
}

static PyObject *
connection_data_received(ConnectionObject *self, PyObject *data)
{
    PyObject *rest, *done;
    if (self->closing)
        Py_RETURN_NONE;
    if (!PyBytes_CheckExact(data) || self->in_request || self->refused || self->last)
        return PyObject_CallMethodOneArg((PyObject *)self, str_received, data);
    Py_ssize_t size = PyBytes_GET_SIZE(data), taken = take_all(self, PyBytes_AS_STRING(data), size);
    if (taken < 0)
        return NULL;
    if (taken == size && size)
        Py_RETURN_NONE;
    rest = taken ? PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + taken, size - taken) : Py_NewRef(data);
    if (rest == NULL)
        return NULL;
    done = self->under_way ? hold(self, rest) : PyObject_CallMethodOneArg((PyObject *)self, str_received, rest);
    Py_DECREF(rest);
    return done;
}

static PyObject *
connection_take_held(ConnectionObject *self, PyObject *Py_UNUSED(nothing))
{
    PyObject *held = self->held, *empty, *joined;
    self->held = NULL;
    empty = PyBytes_FromStringAndSize(NULL, 0);
    if (held == NULL || empty == NULL)
        return empty;
    joined = PyObject_CallMethod(empty, "join", "O", held);
    Py_DECREF(empty);
    Py_DECREF(held);
    return joined;
}

static int
connection_traverse(ConnectionObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->transport);
    Py_VISIT(self->waiting);
    Py_VISIT(self->known);
    Py_VISIT(self->held);
    Py_VISIT(self->lane);
    return 0;
}

static int
connection_clear(ConnectionObject *self)
{
    Py_CLEAR(self->transport);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->known);
    Py_CLEAR(self->held);
    Py_CLEAR(self->lane);
    return 0;
}

static void
connection_dealloc(ConnectionObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    connection_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef connection_members[] = {
    {"_transport", T_OBJECT, offsetof(ConnectionObject, transport), 0, NULL},
    {"_waiting", T_OBJECT, offsetof(ConnectionObject, waiting), 0, NULL},
    {"_known", T_OBJECT, offsetof(ConnectionObject, known), 0, NULL},
    {"_in_request", T_BOOL, offsetof(ConnectionObject, in_request), 0, NULL},
    {"_refused", T_BOOL, offsetof(ConnectionObject, refused), 0, NULL},
    {"_last", T_BOOL, offsetof(ConnectionObject, last), 0, NULL},
    {"_closing", T_BOOL, offsetof(ConnectionObject, closing), 0, NULL},
    {"_since", T_DOUBLE, offsetof(ConnectionObject, since), 0, NULL},
    {"under_way", T_PYSSIZET, offsetof(ConnectionObject, under_way), READONLY, "Requests that a lane has taken."},
    {NULL},
};

static PyMethodDef connection_methods[] = {
    {"data_received", (PyCFunction)connection_data_received, METH_O, "Bytes from the client."},
    {"take_held", (PyCFunction)connection_take_held, METH_NOARGS, "The bytes that were held back, no longer kept."},
    {NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, "A connection of which lanes take what they can; the rest goes to `_received`."},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_members, connection_members},
    {Py_tp_methods, connection_methods},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    "loopwright.serve.rest._express.Connection", sizeof(ConnectionObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, connection_slots};

/* ------------------------------------------------------------------ lanes */

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
    static char *names[] = {"wake", "width", "template", "refusal", "most_rows", "turn_requests", "turn_s", NULL};
    PyObject *wake, *template, *refusal;
    double turn_s;
    if (!PyArg_ParseTupleAndKeywords(args, named, "OnSSnnd", names, &wake, &self->width, &template, &refusal,
                                     &self->most_rows, &self->turn_requests, &turn_s))
        return -1;
    if (self->width < 1 || self->turn_requests < 1) {
        PyErr_SetString(PyExc_ValueError, "a row has at least one value, and a turn one request");
        return -1;
    }
    Py_XSETREF(self->wake, Py_NewRef(wake));
    Py_XSETREF(self->template, Py_NewRef(template));
    Py_XSETREF(self->refusal, Py_NewRef(refusal));
    self->turn_ns = (int64_t)(turn_s * 1e9);
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
    self->count -= count;
    self->filled -= values;
    memmove(self->entries, self->entries + count, (size_t)self->count * sizeof(Entry));
    memmove(self->values, self->values + values, (size_t)self->filled * sizeof(double));
    return (PyObject *)taken;
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
    for (Py_ssize_t at = 0; at < self->count; at++)
        Py_VISIT(self->entries[at].connection);
    return 0;
}

static int
lane_clear(LaneObject *self)
{
    Py_CLEAR(self->wake);
    while (self->count > 0)
        Py_DECREF(self->entries[--self->count].connection);
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
    {"is_open", T_BOOL, offsetof(LaneObject, is_open), 0, "Whether it takes requests."},
    {NULL},
};

static PyMethodDef lane_methods[] = {
    {"take", (PyCFunction)lane_take, METH_VARARGS, "The first requests: so many at most, with so many rows."},
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

/* ------------------------------------------------------------------ what was taken */

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

/* ------------------------------------------------------------------ the module */

static PyObject *
module_read_rows(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *body;
    Py_ssize_t length, width, rows;
    PyObject *values;
    if (!PyArg_ParseTuple(args, "y#n", &body, &length, &width))
        return NULL;
    values = PyBytes_FromStringAndSize(NULL, (length / 2 + 1) * (Py_ssize_t)sizeof(double));
    if (values == NULL)
        return NULL;
    rows = read_rows(body, length, width, (double *)PyBytes_AS_STRING(values));
    if (rows == 0) {
        Py_DECREF(values);
        Py_RETURN_NONE;
    }
    _PyBytes_Resize(&values, rows * width * (Py_ssize_t)sizeof(double));
    return values;
}

static PyMethodDef module_methods[] = {
    {"read_rows", module_read_rows, METH_VARARGS,
     "The numbers of a request as 64-bit floats, row by row; None for another form."},
    {NULL},
};

static struct PyModuleDef module_def = {PyModuleDef_HEAD_INIT, "_express", NULL, -1, module_methods};

PyMODINIT_FUNC
PyInit__express(void)
{
    PyObject *module = PyModule_Create(&module_def), *connection;
    if (module == NULL)
        return NULL;
    str_lane = PyUnicode_InternFromString("lane");
    str_length = PyUnicode_InternFromString("length");
    str_write = PyUnicode_InternFromString("write");
    str_received = PyUnicode_InternFromString("_received");
    str_released = PyUnicode_InternFromString("_released");
    str_pause = PyUnicode_InternFromString("_pause");
    connection = PyType_FromSpec(&connection_spec);
    LaneType = (PyTypeObject *)PyType_FromSpec(&lane_spec);
    TakenType = (PyTypeObject *)PyType_FromSpec(&taken_spec);
    if (connection == NULL || LaneType == NULL || TakenType == NULL ||
        PyModule_AddObjectRef(module, "Connection", connection) < 0 ||
        PyModule_AddObjectRef(module, "Lane", (PyObject *)LaneType) < 0 ||
        PyModule_AddObjectRef(module, "Taken", (PyObject *)TakenType) < 0)
        return NULL;
    return module;
}
