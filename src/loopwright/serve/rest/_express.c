/* The express lane of HTTP: requests that are alike but for their numbers, without an object for each of them.

   A `Lane` gathers the rows of one endpoint that arrive in one turn of the event loop. `Connection` is the part of a
   connection that reads: what the lane can take, it takes; all else goes to `_received` of the Python class, as it was
   sent. `Taken` is what was gathered, with the places of the answers. See express.py, which has the rest. */

#include "_express_connection.h"
#include "_express_lane.h"
#include "_express_taken.h"

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
    fill_fives();
    str_lane = PyUnicode_InternFromString("lane");
    str_length = PyUnicode_InternFromString("length");
    str_write = PyUnicode_InternFromString("write");
    str_received = PyUnicode_InternFromString("_received");
    str_released = PyUnicode_InternFromString("_released");
    str_unsent = PyUnicode_InternFromString("get_write_buffer_size");
    str_pause = PyUnicode_InternFromString("_pause");
    str_forms = PyUnicode_InternFromString("forms");
    FormType = (PyTypeObject *)PyType_FromSpec(&form_spec);
    connection = PyType_FromSpec(&connection_spec);
    LaneType = (PyTypeObject *)PyType_FromSpec(&lane_spec);
    TakenType = (PyTypeObject *)PyType_FromSpec(&taken_spec);
    if (connection == NULL || LaneType == NULL || TakenType == NULL || FormType == NULL ||
        PyModule_AddObjectRef(module, "Form", (PyObject *)FormType) < 0 ||
        PyModule_AddObjectRef(module, "Connection", connection) < 0 ||
        PyModule_AddObjectRef(module, "Lane", (PyObject *)LaneType) < 0 ||
        PyModule_AddObjectRef(module, "Taken", (PyObject *)TakenType) < 0)
        return NULL;
    return module;
}
