/* The responses to requests that a lane has gathered, cut out of what was written for all of them. */

#pragma once

#include "_express_types.h"

/* What all requests asked for of one output, or of the ids behind these. */
typedef struct {
    const char *at, *end; /* texts in JSON; NULL where nobody asks for them */
    const char *values;   /* of this request */
    Py_ssize_t size;
    const char *raw; /* bytes, in order; NULL where nobody asks for them */
    Py_ssize_t row;  /* so many for each row */
} Column;

/* The next values of a column, without brackets: texts between commas. */
static int
next_values(Column *column, Py_ssize_t rows)
{
    const char *at = column->at, *comma = at;
    if (at == NULL)
        return 0;
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

#define PUT(out, from, count) (memcpy(out, from, (size_t)(count)), (out) += (count))

/* A response with room for its body; `out` is where that begins. */
static PyObject *
begun(Py_ssize_t body, Py_ssize_t text, char **out)
{
    static const char json[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    static const char octets[] = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: ";
    static const char header[] = "\r\ninference-header-content-length: ";
    const char *head = text < 0 ? json : octets;
    char length[20], of_text[20], *size = written(length + 20, body), *told = written(of_text + 20, text < 0 ? 0 : text);
    Py_ssize_t more = text < 0 ? 0 : (Py_ssize_t)sizeof header - 1 + (of_text + 20 - told);
    PyObject *response =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)strlen(head) + (length + 20 - size) + more + 4 + body);
    if (response == NULL)
        return NULL;
    *out = PyBytes_AS_STRING(response);
    PUT(*out, head, strlen(head));
    PUT(*out, size, length + 20 - size);
    if (text >= 0) {
        PUT(*out, header, sizeof header - 1);
        PUT(*out, told, of_text + 20 - told);
    }
    PUT(*out, "\r\n\r\n", 4);
    return response;
}

/* The response for some rows in JSON, whose values are the next ones of each column. */
static PyObject *
response_of(LaneObject *lane, Column *columns, Py_ssize_t rows)
{
    char counted[20], *digits = written(counted + 20, rows), *out;
    Py_ssize_t body = lane->text_size, column = 0;
    PyObject *response;
    for (column = 0; column < lane->columns; column++)
        body += columns[column].size;
    for (Piece *piece = lane->pieces; piece->mark; piece++)
        if (piece->mark == ROWS_MARK)
            body += counted + 20 - digits;
    response = begun(body, -1, &out);
    if (response == NULL)
        return NULL;
    column = 0;
    for (Piece *piece = lane->pieces;; piece++) {
        PUT(out, piece->start, piece->size);
        if (piece->mark == ROWS_MARK)
            PUT(out, digits, counted + 20 - digits);
        else if (piece->mark == VALUES_MARK) {
            PUT(out, columns[column].values, columns[column].size);
            column++;
        } else
            break;
    }
    return response;
}

/* The response to a request with a form, in JSON or with tensors in bytes behind it; `first` is its first row. */
static PyObject *
form_response(const FormObject *form, const Column *columns, Py_ssize_t first)
{
    Py_ssize_t text = 0, tail = 0;
    PyObject *response;
    char *out;
    for (Py_ssize_t at = 0; at <= form->columns; at++)
        text += PyBytes_GET_SIZE(PyTuple_GET_ITEM(form->pieces, at)) +
                (at < form->columns ? columns[form->column[at]].size : 0);
    for (Py_ssize_t at = 0; at < form->raws; at++)
        tail += form->rows * columns[form->raw[at]].row;
    response = begun(text + tail, form->raws ? text : -1, &out);
    if (response == NULL)
        return NULL;
    for (Py_ssize_t at = 0; at <= form->columns; at++) {
        PyObject *piece = PyTuple_GET_ITEM(form->pieces, at);
        PUT(out, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece));
        if (at < form->columns)
            PUT(out, columns[form->column[at]].values, columns[form->column[at]].size);
    }
    for (Py_ssize_t at = 0; at < form->raws; at++) {
        const Column *column = &columns[form->raw[at]];
        PUT(out, column->raw + first * column->row, form->rows * column->row);
    }
    return response;
}

/* Whether the columns hold what a form wants. */
static int
fits(const FormObject *form, const Column *columns, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < form->columns; at++)
        if (form->column[at] >= count || columns[form->column[at]].at == NULL)
            return 0;
    for (Py_ssize_t at = 0; at < form->raws; at++)
        if (form->raw[at] >= count || columns[form->raw[at]].raw == NULL)
            return 0;
    return 1;
}

/* The response to one of the requests, whose values are the next ones of each column. */
static PyObject *
next_response(LaneObject *lane, const Entry *entry, Column *columns, Py_ssize_t first)
{
    for (Py_ssize_t at = 0; at < lane->columns; at++)
        if (next_values(&columns[at], entry->rows) < 0) {
            PyErr_SetString(PyExc_ValueError, "a column has too few values");
            return NULL;
        }
    return entry->form == NULL ? response_of(lane, columns, entry->rows) : form_response(entry->form, columns, first);
}
