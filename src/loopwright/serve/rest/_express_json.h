/* The one form of request that the express lane takes, read without an object for each value:
       {"inputs": [{"name": "...", "shape": [rows, width], "datatype": "FP32", "data": [1.5, ...]}]}

   Members may come in any order. Whatever else stands there (another member, an escape, a byte beyond ASCII, a value
   that is no number within float32) is left to the reader that takes everything, and says what is wrong. */

#pragma once

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define BIGGEST 3.4e38 /* as loaded._FLOAT32_LIMIT */
#define EXACT_DIGITS 19
#define EXACT_POWER 22
#define LONG_POWER 27

static const double powers[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                               1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#if LDBL_MANT_DIG == 64 && defined(__x86_64__)
#define HAS_LONG 1
static const long double long_powers[LONG_POWER + 1] = {
    1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
    1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};

/* digits * 10^power, if one rounding to 64 bits leaves no doubt about the rounding to 53. */
static int
scaled(uint64_t digits, int power, double *found)
{
    union {
        long double value;
        uint64_t mantissa;
    } wide;
    wide.value = (long double)digits;
    wide.value = power < 0 ? wide.value / long_powers[-power] : wide.value * long_powers[power];
    if ((wide.mantissa & 0x7FF) == 0x400) /* halfway between two doubles, as far as can be seen */
        return 0;
    *found = (double)wide.value;
    return 1;
}
#else
#define HAS_LONG 0
#endif

typedef struct {
    const char *at, *end;
} Text;

static inline int
is_digit(char sign)
{
    return (unsigned char)(sign - '0') < 10;
}

static inline void
skip_space(Text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r'))
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

/* Eight digits at once, if they are that. */
static inline int
eight_digits(const char *at, uint64_t *found)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t signs;
    memcpy(&signs, at, sizeof signs);
    if (((signs & 0xF0F0F0F0F0F0F0F0) | (((signs + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) >> 4)) !=
        0x3333333333333333)
        return 0;
    signs = (signs & 0x0F0F0F0F0F0F0F0F) * 2561 >> 8;
    signs = (signs & 0x00FF00FF00FF00FF) * 6553601 >> 16;
    *found = (signs & 0x0000FFFF0000FFFF) * 42949672960001 >> 32;
    return 1;
#else
    (void)at, (void)found;
    return 0;
#endif
}

/* A number of JSON, rounded as Python rounds it. The bytes behind `end` must hold a sign that ends a number. */
static int
read_number(Text *text, double *found)
{
    const char *start, *at = text->at, *end = text->end;
    uint64_t digits = 0;
    int negative = 0, count = 0, power = 0, fraction = 0;
    double value;

    start = at;
    if (at < end && *at == '-')
        negative = 1, at++;
    if (at >= end || !is_digit(*at))
        return 0;
    if (*at == '0' && at + 1 < end && is_digit(at[1]))
        return 0;
    for (; at < end && is_digit(*at); at++) {
        digits = digits * 10 + (uint64_t)(*at - '0');
        count += count || digits;
    }
    if (at < end && *at == '.') {
        const char *point = ++at;
        for (uint64_t eight; end - at >= 8 && eight_digits(at, &eight); at += 8) {
            digits = digits * 100000000 + eight;
            count += count || digits ? 8 : 0;
        }
        for (; at < end && is_digit(*at); at++) {
            digits = digits * 10 + (uint64_t)(*at - '0');
            count += count || digits;
        }
        if (at == point || at - point > 10000)
            return 0;
        fraction = (int)(at - point);
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        int sign = 1;
        const char *first;
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            sign = *at++ == '-' ? -1 : 1;
        for (first = at; at < end && is_digit(*at); at++)
            if (power < 10000)
                power = power * 10 + (*at - '0');
        if (at == first)
            return 0;
        power *= sign;
    }
    power -= fraction;
    text->at = at;
    if (count <= EXACT_DIGITS && digits == 0)
        value = 0.0;
    else if (count <= EXACT_DIGITS && digits <= (UINT64_C(1) << 53) && power >= -EXACT_POWER && power <= EXACT_POWER)
        value = power < 0 ? (double)digits / powers[-power] : (double)digits * powers[power];
#if HAS_LONG
    else if (count <= EXACT_DIGITS && power >= -LONG_POWER && power <= LONG_POWER && scaled(digits, power, &value))
        ;
#endif
    else {
        char *behind;
        value = PyOS_string_to_double(start, &behind, NULL); /* by the number's end it stops itself */
        if (PyErr_Occurred()) {
            PyErr_Clear();
            return 0;
        }
        if (behind != at)
            return 0;
        negative = 0;
    }
    *found = negative ? -value : value;
    return fabs(*found) < BIGGEST;
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
    if (!pass(text, '['))
        return -1;
    do {
        skip_space(text);
        if (!read_number(text, out + count))
            return -1;
        count++;
    } while (pass(text, ','));
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
