/* `Form`: what the JSON in front of a binary tensor says, and how such a request is answered.

   From request to request only the tensor's bytes change. So the usual way reads the JSON, once, and leaves a form; from
   then on the same JSON, byte for byte, is looked up. */

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#include "_express_number.h"

#define MOST_TEXTS 64
#define MOST_ROWS (1 << 18) /* of a request; a lane has a bound of its own below that */

typedef struct {
    PyObject_HEAD
    Py_ssize_t rows;
    char kind;                  /* of the tensor's numbers, as in Python's `struct` */
    PyObject *pieces;           /* of the answer's JSON, between which columns stand */
    Py_ssize_t columns, raws;
    int column[MOST_TEXTS + 1]; /* outputs, or the ids behind these */
    int raw[MOST_TEXTS];        /* outputs behind the JSON, as bytes; none where all of the answer is JSON */
} FormObject;

static PyTypeObject *FormType;
static PyObject *str_forms;

/* Numbers of some type into doubles, if each lies within float32. */
#define READ_WHOLE(type)                                                                                               \
    do {                                                                                                               \
        type value;                                                                                                    \
        for (Py_ssize_t at = 0; at < count; at++) {                                                                    \
            memcpy(&value, raw + at * (Py_ssize_t)sizeof value, sizeof value);                                         \
            out[at] = (double)value;                                                                                   \
        }                                                                                                              \
        return 1;                                                                                                      \
    } while (0)

#define READ_FLOATS(type)                                                                                              \
    do {                                                                                                               \
        type value;                                                                                                    \
        int others = 0;                                                                                                \
        for (Py_ssize_t at = 0; at < count; at++) {                                                                    \
            memcpy(&value, raw + at * (Py_ssize_t)sizeof value, sizeof value);                                         \
            out[at] = (double)value;                                                                                   \
            others |= !(fabs(out[at]) < BIGGEST); /* NaN, too */                                                       \
        }                                                                                                              \
        return !others;                                                                                                \
    } while (0)

static int
read_raw(char kind, const char *raw, Py_ssize_t count, double *out)
{
    switch (kind) {
    case 'f': READ_FLOATS(float);
    case 'd': READ_FLOATS(double);
    case 'b': READ_WHOLE(int8_t);
    case 'h': READ_WHOLE(int16_t);
    case 'i': READ_WHOLE(int32_t);
    case 'q': READ_WHOLE(int64_t);
    case 'B': READ_WHOLE(uint8_t);
    case 'H': READ_WHOLE(uint16_t);
    case 'I': READ_WHOLE(uint32_t);
    case 'Q': READ_WHOLE(uint64_t);
    }
    return 0;
}

static Py_ssize_t
size_of(char kind)
{
    switch (kind) {
    case 'b': case 'B': return 1;
    case 'h': case 'H': return 2;
    case 'i': case 'I': case 'f': return 4;
    case 'q': case 'Q': case 'd': return 8;
    }
    return 0;
}

/* The rows of a request of this form, of `width` values each, into `out`; how many, or 0 where its bytes are not that. */
static Py_ssize_t
read_form(const FormObject *form, const char *raw, Py_ssize_t size, Py_ssize_t width, double *out)
{
    Py_ssize_t count = form->rows * width;
    if (size != count * size_of(form->kind) || !read_raw(form->kind, raw, count, out))
        return 0;
    return form->rows;
}

/* Numbers of a tuple that lie below 65; how many, or -1. */
static Py_ssize_t
read_places(PyObject *places, int *out, Py_ssize_t most)
{
    Py_ssize_t count = PyTuple_GET_SIZE(places);
    if (count > most) {
        PyErr_SetString(PyExc_ValueError, "a form has too many columns");
        return -1;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        long place = PyLong_AsLong(PyTuple_GET_ITEM(places, at));
        if (place < 0 || place > MOST_TEXTS) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "there is no such column");
            return -1;
        }
        out[at] = (int)place;
    }
    return count;
}

static int
form_init(FormObject *self, PyObject *args, PyObject *named)
{
    static char *names[] = {"rows", "kind", "pieces", "columns", "raws", NULL};
    PyObject *pieces, *columns, *raws;
    Py_ssize_t rows;
    int kind;
    if (!PyArg_ParseTupleAndKeywords(args, named, "nCO!O!O!", names, &rows, &kind, &PyTuple_Type, &pieces,
                                     &PyTuple_Type, &columns, &PyTuple_Type, &raws))
        return -1;
    if (self->pieces != NULL || rows < 1 || rows > MOST_ROWS || kind > 127 || size_of((char)kind) == 0 ||
        PyTuple_GET_SIZE(pieces) != PyTuple_GET_SIZE(columns) + 1) {
        PyErr_SetString(PyExc_ValueError, "no form is like this");
        return -1;
    }
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(pieces); at++)
        if (!PyBytes_CheckExact(PyTuple_GET_ITEM(pieces, at))) {
            PyErr_SetString(PyExc_TypeError, "pieces are bytes");
            return -1;
        }
    self->columns = read_places(columns, self->column, MOST_TEXTS + 1);
    self->raws = self->columns < 0 ? -1 : read_places(raws, self->raw, MOST_TEXTS);
    if (self->raws < 0)
        return -1;
    self->rows = rows;
    self->kind = (char)kind;
    self->pieces = Py_NewRef(pieces);
    return 0;
}

static void
form_dealloc(FormObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->pieces);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef form_members[] = {
    {"rows", T_PYSSIZET, offsetof(FormObject, rows), READONLY, "Of a request."},
    {NULL},
};

static PyType_Slot form_slots[] = {
    {Py_tp_doc, "What the JSON in front of a binary tensor says, and how such a request is answered."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, form_init},
    {Py_tp_dealloc, form_dealloc},
    {Py_tp_members, form_members},
    {0, NULL},
};

static PyType_Spec form_spec = {"loopwright.serve.rest._express.Form", sizeof(FormObject), 0, Py_TPFLAGS_DEFAULT,
                                form_slots};

/* The form (new) of a request with a body like this, whose JSON has so many bytes; NULL if it is not known. */
static FormObject *
form_of(PyObject *forms, const char *body, Py_ssize_t size)
{
    PyObject *text = PyBytes_FromStringAndSize(body, size), *found;
    if (text == NULL)
        return NULL;
    found = PyDict_GetItemWithError(forms, text);
    Py_DECREF(text);
    return found != NULL && Py_TYPE(found) == FormType && ((FormObject *)found)->pieces != NULL
               ? (FormObject *)Py_NewRef(found)
               : NULL;
}

/* The forms of a head (borrowed), and how long the JSON is that they are found by; NULL for a head of JSON alone. */
static PyObject *
forms_of(PyObject *head, Py_ssize_t *text)
{
    PyObject *forms = PyObject_GetAttr(head, str_forms), *by_text = NULL;
    if (forms == NULL)
        return NULL;
    if (PyTuple_CheckExact(forms) && PyTuple_GET_SIZE(forms) == 2 && PyDict_Check(PyTuple_GET_ITEM(forms, 1))) {
        *text = PyLong_AsSsize_t(PyTuple_GET_ITEM(forms, 0));
        by_text = PyTuple_GET_ITEM(forms, 1);
    }
    Py_DECREF(forms); /* the head keeps it */
    return by_text;
}
