/* CLIP's towers for Python.
 *
 * Nothing that Python gives is trusted: sizes, types and shapes are checked before use, numbers that become addresses
 * are copied first, so that no other thread can change them afterwards.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "kernels.h"

#if COMPILED

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "life.h"

#define INT8_INPUTS 65793 /* whose products of bytes can be summed up in 32 bits */
#define CAPSULE "clipworks.runtimes.native._towers.Tower"

/* A tower and Python's buffer of its weights. */
typedef struct {
    Tower *tower;
    Py_buffer weights;
} Handle;

static void drop(PyObject *capsule)
{
    Handle *handle = PyCapsule_GetPointer(capsule, CAPSULE);
    free_tower(handle->tower);
    PyBuffer_Release(&handle->weights);
    free(handle);
}

/* What a tower takes. */
typedef enum { IMAGES, PACKED_TEXTS, FULL_TEXTS } Kind;

/* The tower that Python means, open and of this kind; sets the error. */
static Tower *find_tower(PyObject *capsule, Kind kind)
{
    static const char *const names[] = {"images", "packed texts", "texts of full length"};
    if (!PyCapsule_IsValid(capsule, CAPSULE)) {
        PyErr_SetString(PyExc_TypeError, "the tower is none that open_tower gave");
        return NULL;
    }
    Tower *tower = ((Handle *)PyCapsule_GetPointer(capsule, CAPSULE))->tower;
    const Kind own = tower->facts.image_size ? IMAGES : tower->length ? FULL_TEXTS : PACKED_TEXTS;
    if (atomic_load(&tower->closed))
        PyErr_SetString(PyExc_ValueError, "the tower is closed");
    else if (kind != own)
        PyErr_Format(PyExc_ValueError, "the tower is one for %s", names[own]);
    else
        return tower;
    return NULL;
}

/* A type and shape in words; -1 stands for any number. */
static const char *describe(char *text, size_t room, const char *format, int dims, const Py_ssize_t *shape)
{
    static const char *const names[] = {"B" "uint8", "b" "int8", "?" "bool", "H" "uint16", "h" "int16", "I" "uint32",
                                        "i" "int32", "L" "uint64", "l" "int64", "e" "float16", "f" "float32",
                                        "d" "float64"};
    const char *name = format;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (format[0] == names[i][0] && !format[1])
            name = names[i] + 1;
    size_t used = (size_t)snprintf(text, room, "%.20s [", name);
    for (int i = 0; i < dims && used < room; i++) {
        const char *comma = i ? ", " : "";
        used += (size_t)(shape[i] < 0 ? snprintf(text + used, room - used, "%sn", comma)
                                      : snprintf(text + used, room - used, "%s%zd", comma, shape[i]));
    }
    if (used < room)
        snprintf(text + used, room - used, "]");
    return text;
}

/* An array as it lies in memory, contiguous, of one type ("B", "i" or "f") and of a shape, in which -1 is any number;
 * sets the error. What could not be had may be released all the same. */
static int open_view(PyObject *object, const char *name, int writable, const char *type, int dims,
                     const Py_ssize_t *shape, Py_buffer *view)
{
    char given[200], allowed[200];
    view->obj = NULL;
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError, "%s is no array", name);
        return 0;
    }
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0))) {
        view->obj = NULL;
        if (PyErr_ExceptionMatches(PyExc_MemoryError))
            return 0;
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s does not lie in memory as it must: contiguous%s", name,
                     writable ? " and writable" : "");
        return 0;
    }
    const char *format = view->format == NULL ? "B" : view->format;
    int fits = !strcmp(format, type) && view->ndim == dims && view->itemsize == (*type == 'B' ? 1 : 4);
    for (int i = 0; fits && i < dims; i++)
        fits = shape[i] < 0 || view->shape[i] == shape[i];
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "%s is %s; allowed: %s", name,
                     describe(given, sizeof given, format, view->ndim, view->shape),
                     describe(allowed, sizeof allowed, type, dims, shape));
        return 0;
    }
    if ((uintptr_t)view->buf % (size_t)view->itemsize) {
        PyErr_Format(PyExc_ValueError, "%s begins within a number; allowed: multiples of %zd bytes", name, view->itemsize);
        return 0;
    }
    return 1;
}

/* Whether a tower can be of these sizes; sets the error. With these bounds no product of a tower's own sizes overflows. */
static int check_facts(const Facts *facts, int threads)
{
    const long images = facts->image_size != 0;
    const struct {
        const char *name;
        long value, least, most;
    } sizes[] = {
        {"image_size", facts->image_size, 0, 1 << 14},
        {"grid", facts->grid, images, facts->image_size},
        {"patch_size", facts->patch_size, images, facts->grid > 0 ? facts->image_size / facts->grid : 0},
        {"width", facts->width, 1, 1 << 16},
        {"heads", facts->heads, 1, facts->width},
        {"dim", facts->dim, 1, 1 << 16},
        {"layers", facts->layers, 1, 1 << 12},
        {"mlp_dim", facts->mlp_dim, 1, 1 << 20},
        {"vocabulary", facts->vocabulary, !images, images ? 0 : 1 << 28},
        {"context", facts->context, !images, images ? 0 : 1 << 20},
        {"activation", facts->activation, QUICK_GELU, GELU_TANH},
        {"threads", threads, 1, 1 << 12},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most) {
            PyErr_Format(PyExc_ValueError, "%s is %ld; allowed: %ld to %ld", sizes[i].name, sizes[i].value,
                         sizes[i].least, sizes[i].most);
            return 0;
        }
    if (facts->width % facts->heads) {
        PyErr_Format(PyExc_ValueError, "heads is %ld; allowed: what divides width, %ld", facts->heads, facts->width);
        return 0;
    }
    const long inputs = facts->mlp_dim > facts->patch_size * facts->patch_size * 3 ? facts->mlp_dim
                                                                                   : facts->patch_size * facts->patch_size * 3;
    if (facts->int8 && inputs > INT8_INPUTS) {
        PyErr_Format(PyExc_ValueError, "a map of int8 has %ld inputs; allowed: %d", inputs, INT8_INPUTS);
        return 0;
    }
    if (!facts->projected && facts->dim != facts->width) {
        PyErr_Format(PyExc_ValueError, "dim is %ld without a projection; allowed: width, %ld", facts->dim, facts->width);
        return 0;
    }
    if (!(facts->center >= 0 && facts->center <= 255 && facts->epsilon >= 0 && facts->epsilon <= 1)) {
        PyErr_SetString(PyExc_ValueError, "center or epsilon is out of range; allowed: 0 to 255, and 0 to 1");
        return 0;
    }
    return 1;
}

/* The instruction set of a name, if the processor has it and it computes what a tower wants; sets the error. */
static const InstructionSet *find_set(const char *name, const Facts *facts)
{
    for (const InstructionSet *set = instruction_sets; set->name != NULL; set++) {
        if (strcmp(set->name, name) || !set->find())
            continue;
        if (set->enable != NULL && !set->enable()) {
            PyErr_Format(PyExc_ValueError, "the system refuses the instruction set %s", name);
            return NULL;
        }
        if (set->kernels[facts->bf16 ? BF16 : F32] != NULL && (!facts->int8 || set->kernels[INT8] != NULL))
            return set;
        PyErr_Format(PyExc_ValueError, "the instruction set %s does not compute the tower's precision", name);
        return NULL;
    }
    PyErr_Format(PyExc_ValueError, "this processor has no instruction set %s", name);
    return NULL;
}

/* A tower for packed weights; sets the error. */
static Tower *make_tower(const Py_buffer *weights, const Facts *facts, const InstructionSet *set, int threads)
{
    Tower *tower = create_tower(facts, set, threads);
    if (tower == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    const char *wrong = (uintptr_t)weights->buf % sizeof(float) ? "the packed weights begin within a number"
                                                                : read_weights(tower, weights->buf, (size_t)weights->len);
    if (wrong != NULL)
        PyErr_SetString(PyExc_ValueError, wrong);
    else if (!start_tower(tower))
        PyErr_Format(PyExc_RuntimeError, "the system gave %d of %d threads", tower->pool.started + 1, threads);
    else
        return tower;
    free_tower(tower);
    return NULL;
}

static PyObject *open_tower(PyObject *self, PyObject *args)
{
    (void)self;
    static const Py_ssize_t any[] = {-1};
    Facts facts;
    PyObject *weights;
    const char *name;
    int threads;
    if (!PyArg_ParseTuple(args, "O(lllllllllllddppppppp)is", &weights, &facts.image_size, &facts.grid, &facts.patch_size,
                          &facts.width, &facts.heads, &facts.dim, &facts.layers, &facts.mlp_dim, &facts.vocabulary,
                          &facts.context, &facts.activation, &facts.center, &facts.epsilon, &facts.cls_token,
                          &facts.input_norm, &facts.causal, &facts.attention_pool, &facts.projected, &facts.bf16,
                          &facts.int8, &threads, &name)) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            PyErr_SetString(PyExc_ValueError, "a size is too large for a number of the processor");
        }
        return NULL;
    }
    const InstructionSet *set = check_facts(&facts, threads) ? find_set(name, &facts) : NULL;
    if (set == NULL)
        return NULL;
    Handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return PyErr_NoMemory();
    PyObject *capsule = NULL;
    if (open_view(weights, "weights", 0, "B", 1, any, &handle->weights))
        handle->tower = make_tower(&handle->weights, &facts, set, threads);
    if (handle->tower != NULL)
        capsule = PyCapsule_New(handle, CAPSULE, drop);
    if (capsule != NULL)
        return capsule;
    if (handle->tower != NULL)
        free_tower(handle->tower);
    PyBuffer_Release(&handle->weights);
    free(handle);
    return NULL;
}

/* Once the calls before have come to their end. */
static PyObject *close_tower(PyObject *self, PyObject *capsule)
{
    (void)self;
    if (!PyCapsule_IsValid(capsule, CAPSULE)) {
        PyErr_SetString(PyExc_TypeError, "the tower is none that open_tower gave");
        return NULL;
    }
    Handle *handle = PyCapsule_GetPointer(capsule, CAPSULE);
    int first;
    Py_BEGIN_ALLOW_THREADS
    first = close_when_idle(handle->tower);
    Py_END_ALLOW_THREADS
    if (first)
        PyBuffer_Release(&handle->weights);
    Py_RETURN_NONE;
}

/* The instruction set that a tower's kernels are written with: of int8, those of its maps. */
static PyObject *name_set(PyObject *self, PyObject *capsule)
{
    (void)self;
    if (!PyCapsule_IsValid(capsule, CAPSULE)) {
        PyErr_SetString(PyExc_TypeError, "the tower is none that open_tower gave");
        return NULL;
    }
    const Tower *tower = ((Handle *)PyCapsule_GetPointer(capsule, CAPSULE))->tower;
    return PyUnicode_FromString(tower->set->kernels[tower->inner]->name);
}

/* Run a call on so many rows, of sequences of this length at most; sets the error. */
static PyObject *finish_call(Tower *tower, Call *call, const Py_buffer *watched, long length, long rows)
{
    const size_t shown = multiply_sizes(multiply_sizes((size_t)tower->facts.layers, (size_t)rows) + (size_t)call->count,
                               (size_t)tower->facts.width);
    if (watched->len && (size_t)watched->len != multiply_sizes(shown, 4))
        return PyErr_Format(PyExc_ValueError, "watched has %zd numbers; allowed: 0 or %zu", watched->len / 4, shown);
    call->watched = watched->len ? watched->buf : NULL;
    if (call->count == 0)
        Py_RETURN_NONE;
    Outcome outcome;
    int started = 0;
    Py_BEGIN_ALLOW_THREADS
    outcome = run_call(tower, call, length, rows, &started);
    Py_END_ALLOW_THREADS
    switch (outcome) {
    case DONE:
        Py_RETURN_NONE;
    case NO_MEMORY:
        return PyErr_NoMemory();
    case CLOSED:
        PyErr_SetString(PyExc_ValueError, "the tower is closed");
        return NULL;
    case NO_THREADS:
        break;
    }
    return PyErr_Format(PyExc_RuntimeError, "the system gave %d of %d threads", started + 1, tower->team.threads);
}

static PyObject *encode_images(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[3], *result = NULL;
    Py_buffer pixels = {0}, out = {0}, watched = {0};
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &objects[0], &objects[1], &objects[2]))
        return NULL;
    Tower *tower = find_tower(capsule, IMAGES);
    if (tower == NULL)
        return NULL;
    const Facts *facts = &tower->facts;
    if (open_view(objects[0], "pixels", 0, "B", 4, (Py_ssize_t[]){-1, facts->image_size, facts->image_size, 3}, &pixels) &&
        open_view(objects[1], "out", 1, "f", 2, (Py_ssize_t[]){pixels.shape[0], facts->dim}, &out) &&
        open_view(objects[2], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &watched)) {
        Call call = {.pixels = pixels.buf, .out = out.buf, .count = (long)pixels.shape[0]};
        result = finish_call(tower, &call, &watched, tower->length, call.count * tower->length);
    }
    PyBuffer_Release(&pixels);
    PyBuffer_Release(&out);
    PyBuffer_Release(&watched);
    return result;
}

/* Whether all numbers are from 0 up to below a bound; sets the error. */
static int check(const char *name, const int32_t *numbers, long count, long bound)
{
    for (long i = 0; i < count; i++)
        if (numbers[i] < 0 || numbers[i] >= bound) {
            PyErr_Format(PyExc_ValueError, "%s has %d; allowed: 0 to %ld", name, (int)numbers[i], bound - 1);
            return 0;
        }
    return 1;
}

static PyObject *encode_full_texts(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[3], *result = NULL;
    Py_buffer ids = {0}, out = {0}, watched = {0};
    int32_t *copy = NULL;
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &objects[0], &objects[1], &objects[2]))
        return NULL;
    Tower *tower = find_tower(capsule, FULL_TEXTS);
    if (tower == NULL)
        return NULL;
    const Facts *facts = &tower->facts;
    if (open_view(objects[0], "ids", 0, "i", 2, (Py_ssize_t[]){-1, tower->length}, &ids) &&
        open_view(objects[1], "out", 1, "f", 2, (Py_ssize_t[]){ids.shape[0], facts->dim}, &out) &&
        open_view(objects[2], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &watched)) {
        const long count = (long)ids.shape[0], rows = count * tower->length;
        copy = malloc((size_t)ids.len + 1);
        if (copy == NULL) {
            PyErr_NoMemory();
        } else {
            Call call = {.ids = memcpy(copy, ids.buf, (size_t)ids.len), .out = out.buf, .count = count};
            if (check("ids", copy, rows, facts->vocabulary))
                result = finish_call(tower, &call, &watched, tower->length, rows);
        }
    }
    free(copy);
    PyBuffer_Release(&ids);
    PyBuffer_Release(&out);
    PyBuffer_Release(&watched);
    return result;
}

/* Whether rows are listed in the order of their places in the groups, which name them, and see none behind them, as
 * threads take them in that order; sets the error. */
static int check_order(const Call *call)
{
    for (long i = 0, place = 0; i < call->rows; i++) {
        const long back = call->back[i], first = back / call->length * call->length;
        if (i > 0 && back < place) {
            PyErr_Format(PyExc_ValueError, "back has %ld behind %d; allowed: rising numbers", back,
                         (int)call->back[i - 1]);
            return 0;
        }
        for (place = place < first ? first : place; place <= back; place++)
            if (call->groups[place] > i) {
                PyErr_Format(PyExc_ValueError, "groups has %d up to row %ld; allowed: rows up to it",
                             (int)call->groups[place], i);
                return 0;
            }
        if (call->groups[back] != i || call->ends[back] <= back - first) {
            PyErr_Format(PyExc_ValueError, "back has %ld for row %ld, where groups has row %d seen up to place %d", back,
                         i, (int)call->groups[back], (int)call->ends[back]);
            return 0;
        }
    }
    return 1;
}

/* The arrays of packed texts, in the order in which they are given; behind them come two of floats. */
enum { IDS, POSITIONS, GROUPS, ENDS, BACK, TEXTS, CHOSEN, NUMBERS, OUT = NUMBERS, WATCHED, ARRAYS };

/* Look at all arrays and make a call of them. What becomes an address is copied first; `copy` is to be freed. */
static int read_texts(const Facts *facts, PyObject *const objects[ARRAYS], Py_buffer views[ARRAYS], Call *call,
                      int32_t **copy)
{
    static const char *const names[] = {"ids", "positions", "groups", "ends", "back", "texts", "pooled"};
    Py_ssize_t one_row[] = {1, -1}, table[] = {-1, -1}, line[] = {-1};
    size_t total = 1; /* as there may be none */
    for (int i = 0; i < NUMBERS; i++) {
        const Py_ssize_t *shape = i == CHOSEN ? line : i == GROUPS || i == ENDS || i == TEXTS ? table : one_row;
        if (!open_view(objects[i], names[i], 0, "i", i == CHOSEN ? 1 : 2, shape, &views[i]))
            return 0;
        if (i == IDS)
            one_row[1] = views[IDS].shape[1];
        if (i == GROUPS)
            table[0] = views[GROUPS].shape[0], table[1] = views[GROUPS].shape[1];
        if (i == ENDS)
            table[0] = table[1] = -1;
        if (i == TEXTS)
            line[0] = views[TEXTS].shape[0];
        if (views[i].len / 4 > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s has %zd numbers; allowed: %d", names[i], views[i].len / 4, INT32_MAX);
            return 0;
        }
        total += (size_t)views[i].len / 4;
    }
    if (!open_view(objects[OUT], "out", 1, "f", 2, (Py_ssize_t[]){views[TEXTS].shape[0], facts->dim}, &views[OUT]) ||
        !open_view(objects[WATCHED], "watched", 1, "f", 1, (Py_ssize_t[]){-1}, &views[WATCHED]))
        return 0;
    *copy = malloc(total * sizeof **copy);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    const int32_t **into[] = {&call->ids, &call->positions, &call->groups, &call->ends, &call->back, &call->texts, &call->pooled};
    int32_t *at = *copy;
    for (int i = 0; i < NUMBERS; at += views[i].len / 4, i++)
        *into[i] = memcpy(at, views[i].buf, (size_t)views[i].len);
    call->out = views[OUT].buf;
    call->rows = (long)views[IDS].shape[1];
    call->count = (long)views[TEXTS].shape[0];
    call->group_count = (long)views[GROUPS].shape[0];
    call->length = (long)views[GROUPS].shape[1];
    call->longest = (long)views[TEXTS].shape[1];
    const long slots = call->group_count * call->length;
    return check("ids", call->ids, call->rows, facts->vocabulary) &&
           check("positions", call->positions, call->rows, facts->context) && check("groups", call->groups, slots, call->rows) &&
           check("ends", call->ends, slots, call->length + 1) && check("back", call->back, call->rows, slots) &&
           check("texts", call->texts, call->count * call->longest, call->rows) &&
           check("pooled", call->pooled, call->count, call->longest) && check_order(call);
}

static PyObject *encode_texts(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *capsule, *objects[ARRAYS], *result = NULL;
    Py_buffer views[ARRAYS] = {0};
    Call call = {0};
    int32_t *copy = NULL;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOO", &capsule, &objects[IDS], &objects[POSITIONS], &objects[GROUPS],
                          &objects[ENDS], &objects[BACK], &objects[TEXTS], &objects[CHOSEN], &objects[OUT],
                          &objects[WATCHED]))
        return NULL;
    Tower *tower = find_tower(capsule, PACKED_TEXTS);
    if (tower == NULL)
        return NULL;
    if (read_texts(&tower->facts, objects, views, &call, &copy))
        result = finish_call(tower, &call, &views[WATCHED], call.length > call.longest ? call.length : call.longest, call.rows);
    free(copy);
    for (int i = 0; i < ARRAYS; i++)
        PyBuffer_Release(&views[i]);
    return result;
}

#else /* Another processor or compiler: the same functions, and no precision that would let anyone call them. */

static PyObject *refuse(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyErr_SetString(PyExc_RuntimeError, "the towers were not compiled for this processor");
    return NULL;
}

#define open_tower refuse
#define close_tower refuse
#define name_set refuse
#define encode_images refuse
#define encode_texts refuse
#define encode_full_texts refuse

#endif

/* The instruction sets that this processor has, from the lowest to the highest, each with its precisions. */
static PyObject *list_instruction_sets(PyObject *self, PyObject *args)
{
    (void)self, (void)args;
    PyObject *found = PyDict_New();
#if COMPILED
    static const char *const precisions[FORMATS] = {"f32", "bf16", "int8"};
    for (const InstructionSet *set = instruction_sets; set->name != NULL && found != NULL; set++) {
        if (!set->find())
            continue;
        PyObject *names = PyList_New(0);
        int wrong = names == NULL || PyDict_SetItemString(found, set->name, names);
        for (int i = 0; i < FORMATS && !wrong; i++) {
            PyObject *name = set->kernels[i] == NULL ? NULL : PyUnicode_FromString(precisions[i]);
            wrong = (set->kernels[i] != NULL && name == NULL) || (name != NULL && PyList_Append(names, name));
            Py_XDECREF(name);
        }
        Py_XDECREF(names);
        if (wrong)
            Py_CLEAR(found);
    }
#endif
    return found;
}

static PyMethodDef methods[] = {
    {"list_instruction_sets", list_instruction_sets, METH_NOARGS, "Those that this processor has, with their precisions."},
    {"open_tower", open_tower, METH_VARARGS, "Make a tower of packed weights, its facts, a number of threads and an instruction set."},
    {"name_set", name_set, METH_O, "The instruction set that a tower's kernels are written with."},
    {"close_tower", close_tower, METH_O, "End a tower's threads and free its memory, after the calls before."},
    {"encode_images", encode_images, METH_VARARGS, "Images to embeddings."},
    {"encode_texts", encode_texts, METH_VARARGS, "Packed texts to embeddings."},
    {"encode_full_texts", encode_full_texts, METH_VARARGS, "Texts that all have the tower's context to embeddings."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "clipworks.runtimes.native._towers", "CLIP's towers, compiled.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__towers(void)
{
#if COMPILED
    if (!watch_forks())
        return PyErr_NoMemory();
#endif
    return PyModule_Create(&definition);
}
