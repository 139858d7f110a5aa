/* What the parts of the express lane know of each other. */

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <sys/socket.h>
#include <time.h>

#include "_express_form.h"
#include "_express_json.h"

#define KEPT_VALUES (1 << 18) /* for which room is kept between turns */
#define MOST_BYTES (256 << 10) /* of a body: longer ones are better off elsewhere */
#define MOST_HELD 16 /* pieces that a client may send behind requests in a lane, before it is read no more */
#define ROWS_MARK 1   /* in a template: the number of rows */
#define VALUES_MARK 2 /* in a template: the values of the next column */

static PyObject *str_lane, *str_length, *str_write, *str_received, *str_released, *str_pause, *str_unsent;
static PyTypeObject *LaneType, *TakenType;

static int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

typedef struct LaneObject LaneObject;

typedef struct {
    PyObject_HEAD
    PyObject *transport; /* None once it is lost */
    PyObject *waiting;   /* a deque: exchanges under way outside of the lane */
    PyObject *known;     /* a dict: heads by their bytes */
    PyObject *held;      /* bytes that came while the lane had requests before them; NULL if there are none */
    LaneObject *lane;    /* which has requests of this connection; NULL if none has */
    int socket; /* its descriptor, where what is sent may go to the system at once; 0 for none */
    Py_ssize_t under_way;
    char in_request, refused, last, closing;
    double since;
} ConnectionObject;

typedef struct {
    ConnectionObject *connection;
    FormObject *form; /* NULL for a request in JSON */
    Py_ssize_t rows;
    int64_t started_ns;
} Entry;

static void
forget(Entry *entry)
{
    Py_DECREF(entry->connection);
    Py_XDECREF(entry->form);
}

typedef struct {
    const char *start; /* text, behind which stands what the mark says; 0 behind the last */
    Py_ssize_t size;
    char mark;
} Piece;

struct LaneObject {
    PyObject_HEAD
    PyObject *wake;     /* is called when the first request of a turn is taken */
    PyObject *hurry;    /* answers what waits, at once */
    PyObject *refusal;  /* the response to a request that there is no time for */
    PyObject *template; /* of a response's body */
    Piece pieces[2 * MOST_TEXTS + 1]; /* of the template */
    Py_ssize_t columns, text_size;
    Py_ssize_t width, most_rows;              /* values in a row; rows of a request */
    Py_ssize_t turn_requests, many_rows;      /* a wait is long behind so many requests with more than so many rows, */
    Py_ssize_t few_rows;                      /* or behind more than so many however few requests */
    int64_t long_since_ns, burst_ns;          /* when all waits were long for a time, requests are refused; */
    int64_t refused_ns, calm_ns;              /* and until none was refused for a time, */
    Py_ssize_t overload_rows;                 /* those are that would wait behind more than this, */
    Py_ssize_t late_rows;                     /* or this once the turn has read for a time; see `Pace` */
    int64_t reading_ns, most_reading_ns;      /* since when it has, without what was answered meanwhile; 0: not yet */
    Py_ssize_t most_waiting;                  /* rows; further ones go the usual way, which bounds them too */
    Py_ssize_t count, room, filled, values_room;
    Entry *entries;
    double *values;
    Py_ssize_t shed;
    int64_t shed_ns, hurried_ns; /* after so long without an answer some are given though there is more to read */
    char is_open, has_forms; /* whether heads may have forms, too */
};

typedef struct {
    PyObject_HEAD
    LaneObject *lane;
    Entry *entries;
    Py_ssize_t count, rows;
    PyObject *values; /* bytes: doubles, row by row */
    char has_json, has_raw, is_single; /* answers with outputs in JSON, and in bytes; numbers that all came as float32 */
} TakenObject;

/* What is asked for altogether. */
static void
note_forms(TakenObject *taken)
{
    taken->has_json = taken->has_raw = 0;
    taken->is_single = 1;
    for (Py_ssize_t at = 0; at < taken->count; at++) {
        const FormObject *form = taken->entries[at].form;
        taken->has_json |= form == NULL || form->columns > 1; /* one is that of the ids */
        taken->has_raw |= form != NULL && form->raws > 0;
        taken->is_single &= form != NULL && form->kind == 'f';
    }
}

/* How much of a response the system takes now: nothing where the transport has something to send before it, or where it
   alone may send. A turn of the loop is over before it sends what it was given; a refusal would wait for the answers. */
static Py_ssize_t
sent_at_once(ConnectionObject *connection, PyObject *response)
{
    PyObject *unsent;
    Py_ssize_t before, sent;
    if (connection->socket <= 0)
        return 0;
    unsent = PyObject_CallMethodNoArgs(connection->transport, str_unsent);
    if (unsent == NULL)
        return -1;
    before = PyLong_AsSsize_t(unsent);
    Py_DECREF(unsent);
    if (before)
        return before < 0 ? -1 : 0;
    sent = send(connection->socket, PyBytes_AS_STRING(response), (size_t)PyBytes_GET_SIZE(response), MSG_DONTWAIT);
    return sent < 0 ? 0 : sent; /* what is wrong the transport finds out */
}

static int
write_to(ConnectionObject *connection, PyObject *response)
{
    PyObject *rest, *done;
    Py_ssize_t sent;
    if (connection->transport == NULL || connection->transport == Py_None)
        return 0;
    sent = sent_at_once(connection, response);
    if (sent < 0)
        return -1;
    if (sent == PyBytes_GET_SIZE(response))
        return 0;
    rest = sent == 0 ? Py_NewRef(response)
                     : PyBytes_FromStringAndSize(PyBytes_AS_STRING(response) + sent, PyBytes_GET_SIZE(response) - sent);
    if (rest == NULL)
        return -1;
    done = PyObject_CallMethodOneArg(connection->transport, str_write, rest);
    Py_DECREF(rest);
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
