/* The one form of request that the express lane takes, read without an object for each value:
       {"inputs": [{"name": "...", "shape": [rows, width], "datatype": "FP32", "data": [1.5, ...]}]}

   Members may come in any order. Whatever else stands there (another member, an escape, a byte beyond ASCII, a value
   that is no number within float32) is left to the reader that takes everything, and says what is wrong. */

#pragma once

#include "_express_number.h"

typedef struct {
    const char *at, *end;
} Text;

static inline void
skip_space(Text *text)
{
    while (text->at < text->end && (unsigned char)*text->at <= ' ' &&
           (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r'))
        text->at++;
}

/* Whether the next sign is this one, spaces aside; it is passed then. */
static inline int
pass(Text *text, char sign)
{
    skip_space(text);
    if (text->at >= text->end || *text->at != sign)
        return 0;
    text->at++;
    return 1;
}

/* A string without escapes, all of it ASCII. */
static int
read_string(Text *text, const char **start, Py_ssize_t *length)
{
    const char *at;
    if (!pass(text, '"'))
        return 0;
    for (at = text->at; at < text->end && *at != '"'; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7E || *at == '\\')
            return 0;
    if (at >= text->end)
        return 0;
    *start = text->at;
    *length = at - text->at;
    text->at = at + 1;
    return 1;
}

static int
is_text(const char *start, Py_ssize_t length, const char *wanted)
{
    return (size_t)length == strlen(wanted) && memcmp(start, wanted, (size_t)length) == 0;
}

static int
is_numeric(const char *start, Py_ssize_t length)
{
    static const char *const known[] = {"FP32",  "FP64",   "INT64",  "INT32",  "FP16",  "INT8", "INT16",
                                        "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"};
    for (size_t number = 0; number < sizeof known / sizeof *known; number++)
        if (is_text(start, length, known[number]))
            return 1;
    return 0;
}

/* A dimension: whole, not negative, of at most nine digits. */
static int
read_dimension(Text *text, Py_ssize_t *found)
{
    const char *first;
    Py_ssize_t value = 0;
    skip_space(text);
    for (first = text->at; text->at < text->end && is_digit(*text->at) && text->at - first < 10; text->at++)
        value = value * 10 + (*text->at - '0');
    if (text->at == first || text->at - first > 9 || (*first == '0' && text->at - first > 1))
        return 0;
    *found = value;
    return 1;
}

/* Numbers into `out`, which has room for as many as the text can hold; how many, or -1. */
static Py_ssize_t
read_numbers(Text *text, double *out)
{
    Py_ssize_t count = 0;
    Text here;
    if (!pass(text, '['))
        return -1;
    here = *text; /* which nobody else sees, and so is not in memory */
    do {
        skip_space(&here);
        here.at = pass_number(here.at, here.end, out + count);
        if (here.at == NULL)
            return -1;
        count++;
    } while (pass(&here, ','));
    text->at = here.at;
    return pass(text, ']') ? count : -1;
}

/* The rows of a request of `width` values each, into `out`; how many rows, or 0 where it has another form. */
static Py_ssize_t
read_rows(const char *body, Py_ssize_t length, Py_ssize_t width, double *out)
{
    Text text = {body, body + length};
    Py_ssize_t size, rows = -1, columns = -1, count = -1;
    const char *word;
    int has_name = 0, has_type = 0;

    if (!pass(&text, '{') || !read_string(&text, &word, &size) || !is_text(word, size, "inputs") || !pass(&text, ':') ||
        !pass(&text, '[') || !pass(&text, '{'))
        return 0;
    do {
        if (!read_string(&text, &word, &size) || !pass(&text, ':'))
            return 0;
        if (!has_name && is_text(word, size, "name")) {
            if (!read_string(&text, &word, &size))
                return 0;
            has_name = 1;
        } else if (!has_type && is_text(word, size, "datatype")) {
            if (!read_string(&text, &word, &size) || !is_numeric(word, size))
                return 0;
            has_type = 1;
        } else if (rows < 0 && is_text(word, size, "shape")) {
            if (!pass(&text, '[') || !read_dimension(&text, &rows) || !pass(&text, ',') ||
                !read_dimension(&text, &columns) || !pass(&text, ']'))
                return 0;
        } else if (count < 0 && is_text(word, size, "data")) {
            count = read_numbers(&text, out);
            if (count < 0)
                return 0;
        } else
            return 0;
    } while (pass(&text, ','));
    if (!pass(&text, '}') || !pass(&text, ']') || !pass(&text, '}'))
        return 0;
    skip_space(&text);
    if (text.at != text.end || !has_name || !has_type || rows < 1 || columns != width || count != rows * width)
        return 0;
    return rows;
}
