/* `Connection`: takes what a lane can take, and leaves the rest to Python. */

#include "_express_types.h"

/* What a head says of requests that have it: their lane (borrowed) and the length of their body; NULL for none. */
static LaneObject *
lane_of(ConnectionObject *connection, const char *start, Py_ssize_t size, Py_ssize_t *length, PyObject **forms,
        Py_ssize_t *text)
{
    PyObject *raw, *head, *lane, *number;
    LaneObject *found = NULL;
    *forms = NULL;
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
        if (found != NULL && found->has_forms)
            *forms = forms_of(head, text);
    }
    Py_DECREF(lane); /* the head keeps it */
    return PyErr_Occurred() ? NULL : found;
}

/* Whether a further request would wait for too long; see `Pace.is_full`. */
static int
is_full(LaneObject *lane, int64_t now)
{
    Py_ssize_t rows = lane->filled / lane->width;
    int is_late = lane->reading_ns != 0 && now - lane->reading_ns > lane->most_reading_ns;
    if (now - lane->refused_ns < lane->calm_ns && rows > (is_late ? lane->late_rows : lane->overload_rows))
        return 1;
    if (rows <= lane->few_rows && (lane->count < lane->turn_requests || rows <= lane->many_rows)) {
        lane->long_since_ns = 0;
        return 0;
    }
    if (lane->long_since_ns == 0)
        lane->long_since_ns = now;
    return now - lane->long_since_ns >= lane->burst_ns;
}

/* Have some of what waits answered where nothing was for a while, as long as there is something to read: the loop has no
   other turn until then. Before anybody is refused it may read on, for what the system holds nobody knows of. */
static int
hurry(LaneObject *lane, int64_t now)
{
    PyObject *done;
    int64_t since = lane->hurried_ns;
    if (lane->count == 0 || now - lane->refused_ns >= lane->calm_ns)
        return 0;
    if (lane->entries[0].started_ns > since)
        since = lane->entries[0].started_ns;
    if (now - since <= lane->shed_ns)
        return 0;
    lane->hurried_ns = now;
    done = PyObject_CallNoArgs(lane->hurry);
    if (done == NULL)
        return -1;
    Py_DECREF(done);
    if (lane->reading_ns != 0)
        lane->reading_ns += now_ns() - now;
    return 0;
}

/* Take one request, whose body is a tensor's bytes where it has a form; 1 if it was taken or refused, 0 if it is not for
   the lane, -1 for an error. */
static int
take_one(ConnectionObject *connection, LaneObject *lane, FormObject *form, const char *body, Py_ssize_t length)
{
    int64_t now = now_ns();
    Py_ssize_t rows, most;
    Entry *entry;
    PyObject *done;
    if (lane->count > 0 && lane->reading_ns == 0)
        lane->reading_ns = now;
    if (hurry(lane, now) < 0)
        return -1;
    if (is_full(lane, now)) {
        if (connection->under_way)
            return 0; /* behind those before it */
        lane->refused_ns = now;
        lane->shed++;
        return write_to(connection, lane->refusal) < 0 ? -1 : 1;
    }
    most = form == NULL ? length / 2 + 1 : form->rows * lane->width;
    if (make_room((void **)&lane->values, &lane->values_room, lane->filled + most, sizeof(double)) < 0 ||
        make_room((void **)&lane->entries, &lane->room, lane->count + 1, sizeof(Entry)) < 0)
        return -1;
    rows = form == NULL ? read_rows(body, length, lane->width, lane->values + lane->filled)
                        : read_form(form, body, length, lane->width, lane->values + lane->filled);
    if (rows == 0 || rows > lane->most_rows || lane->filled / lane->width + rows > lane->most_waiting)
        return 0;
    entry = &lane->entries[lane->count];
    entry->connection = (ConnectionObject *)Py_NewRef((PyObject *)connection);
    entry->form = (FormObject *)Py_XNewRef((PyObject *)form);
    entry->rows = rows;
    entry->started_ns = now;
    lane->filled += rows * lane->width;
    if (connection->under_way++ == 0)
        Py_XSETREF(connection->lane, (LaneObject *)Py_NewRef((PyObject *)lane));
    if (lane->reading_ns == 0)
        lane->reading_ns = now;
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
        Py_ssize_t length = 0, text = 0, size_of_head;
        PyObject *forms;
        LaneObject *lane;
        FormObject *form = NULL;
        int found;
        const char *end = memmem(start + taken, (size_t)(size - taken), "\r\n\r\n", 4);
        if (end == NULL)
            break;
        size_of_head = end + 4 - (start + taken);
        lane = lane_of(connection, start + taken, size_of_head, &length, &forms, &text);
        if (lane == NULL) {
            if (PyErr_Occurred())
                return -1;
            break;
        }
        if (length > size - taken - size_of_head || (connection->under_way && connection->lane != lane))
            break;
        if (forms != NULL && (text > length || (form = form_of(forms, end + 4, text)) == NULL)) {
            if (PyErr_Occurred())
                return -1;
            break;
        }
        Py_INCREF(lane);
        found = take_one(connection, lane, form, end + 4 + text, length - text);
        Py_DECREF(lane);
        Py_XDECREF(form);
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
    {"_socket", T_INT, offsetof(ConnectionObject, socket), 0, NULL},
    {"_since", T_DOUBLE, offsetof(ConnectionObject, since), 0, NULL},
    {"under_way", T_PYSSIZET, offsetof(ConnectionObject, under_way), READONLY, "Requests that a lane has taken."},
    {NULL},
};

static PyObject *
connection_send(ConnectionObject *self, PyObject *response)
{
    if (!PyBytes_CheckExact(response))
        return PyErr_Format(PyExc_TypeError, "a response is bytes");
    if (write_to(self, response) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef connection_methods[] = {
    {"send", (PyCFunction)connection_send, METH_O, "Send a whole response, behind what was sent before."},
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
