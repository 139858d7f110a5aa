/* Ids of predictions, as core/ids.py makes them from the same seeds: their bytes, and a list of them in JSON. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { BYTES = 16, DIGITS = 32, EACH = DIGITS + 3 /* quotes and a comma */, RANDOM = 8 };

static void
put_number(unsigned char *at, uint64_t number)
{
    for (int place = 7; place >= 0; place--, number >>= 8)
        at[place] = (unsigned char)number;
}

/* What an id says in digits, quoted; where the next one begins. */
static char *
put_digits(char *at, const unsigned char *id)
{
    static const char digits[] = "0123456789abcdef";
    *at++ = '"';
    for (int place = 0; place < BYTES; place++) {
        *at++ = digits[id[place] >> 4];
        *at++ = digits[id[place] & 15];
    }
    *at++ = '"';
    *at++ = ',';
    return at;
}

static PyObject *
ids_made(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long tick;
    const unsigned char *random;
    Py_ssize_t size, count;
    PyObject *raw, *text, *made = NULL;
    unsigned char *id;
    char *out;
    if (!PyArg_ParseTuple(args, "Ky#", &tick, &random, &size))
        return NULL;
    count = size / RANDOM;
    if (count > PY_SSIZE_T_MAX / EACH - 2)
        return PyErr_NoMemory();
    raw = PyBytes_FromStringAndSize(NULL, count * BYTES);
    text = PyBytes_FromStringAndSize(NULL, count ? count * EACH + 1 : 2);
    if (raw == NULL || text == NULL)
        goto done;
    id = (unsigned char *)PyBytes_AS_STRING(raw);
    out = PyBytes_AS_STRING(text);
    *out++ = '[';
    for (Py_ssize_t at = 0; at < count; at++, tick++, id += BYTES, random += RANDOM) {
        uint64_t low = 0;
        for (int place = 0; place < RANDOM; place++)
            low = low << 8 | random[place];
        put_number(id, tick >> 12 << 16 | 0x7000 | (tick & 0xfff));
        put_number(id + 8, low >> 2 | 1ull << 63);
        out = put_digits(out, id);
    }
    out[count ? -1 : 0] = ']'; /* in place of the last comma */
    made = PyTuple_Pack(2, raw, text);
done:
    Py_XDECREF(raw);
    Py_XDECREF(text);
    return made;
}

static PyMethodDef methods[] = {
    {"made", ids_made, METH_VARARGS, "made(first tick, 8 random bytes for each): their bytes, and a list in JSON."},
    {NULL},
};

static struct PyModuleDef module_def = {PyModuleDef_HEAD_INIT, "_ids", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit__ids(void)
{
    return PyModuleDef_Init(&module_def);
}
