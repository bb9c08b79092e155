"""Models of Keras with the layers that finetune.h maps, weights drawn, and what one step of Adam makes of them.
python3 tests/golden/make_keras.py: NAME.keras (deflated, a tenth of its size) and NAME.safetensors in tests/golden/keras:
inputs, outputs and losses before and after the step; inputs and outputs have the channels first, as in finetune.h.
python3 tests/golden/make_keras.py FOLDER [NAME...]: there, and also NAME.h5, NAME.weights.h5 and NAME.after.weights.h5.
Made with Keras 3.15.1 on TensorFlow 2.21; resets on JAX 0.10.2."""
import json, os, sys, zipfile
os.environ.setdefault('KERAS_BACKEND', 'tensorflow')  # PyTorch's pads SAME average pooling otherwise
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
import numpy as np
import keras
from keras import layers as L, Input, Model, Sequential
from safetensors.numpy import save_file


def pixels():
    x = i = Input((9, 8, 3))
    x = L.Conv2D(6, 3, strides=2, padding='same', use_bias=False, name='stem')(x)
    x = y = L.BatchNormalization(scale=False)(x)
    x = L.DepthwiseConv2D((3, 2), depth_multiplier=2, padding='same', activation='relu')(x)
    x = L.SeparableConv2D(6, 3, padding='same', depth_multiplier=2, activation='swish')(x)
    x = L.Add()([x, y])
    x = L.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = L.Cropping2D(((0, 1), (1, 0)))(x)
    x = L.Concatenate()([L.MaxPooling2D(3, 2, padding='same')(x), L.AveragePooling2D(3, 2, padding='same')(x)])
    x = L.Conv2D(8, 2, groups=2, dilation_rate=1, activation='tanh')(x)
    x = L.Flatten()(x)
    return Model(i, L.Dense(5, activation='softmax', name='head')(x)), 'sparse_categorical_crossentropy'


def words():
    return Sequential([Input((7,), dtype='int32'), L.Embedding(11, 6),
                       L.Bidirectional(L.LSTM(4, return_sequences=True)), L.GRU(5, return_sequences=True),
                       L.TimeDistributed(L.Dense(6, activation='elu')), L.SimpleRNN(4),
                       L.Dense(1, activation='sigmoid')]), 'binary_crossentropy'


def steps():
    x = i = Input((12, 3))
    x = L.Conv1D(6, 3, padding='causal', dilation_rate=2, activation='relu')(x)
    x = L.BatchNormalization()(x)
    x = L.MaxPooling1D(2)(x)
    x = L.SeparableConv1D(6, 3, padding='same', activation='tanh')(x)
    x = L.DepthwiseConv1D(2, padding='valid', depth_multiplier=2)(x)
    x = L.AveragePooling1D(2, padding='same')(x)
    x = L.ZeroPadding1D((1, 2))(x)
    x = L.Cropping1D((0, 1))(x)
    x = L.Bidirectional(L.GRU(3), merge_mode='ave')(x)
    return Model(i, L.Dense(3)(x)), 'mse'


def attention():
    x = i = Input((None, 8))
    a = L.MultiHeadAttention(2, 3, value_dim=4, dropout=0.0)(x, x, use_causal_mask=True)
    x = L.LayerNormalization()(L.Add()([x, a]))
    k = L.Dense(6)(x)
    x = L.MultiHeadAttention(3, 2, output_shape=5)(x, k)
    x = L.LayerNormalization(center=False)(L.Dense(8, activation='gelu')(x))
    x = L.Concatenate()([L.GlobalAveragePooling1D()(x), L.GlobalMaxPooling1D()(x)])
    return Model(i, L.Dense(4, activation='softmax')(x)), 'categorical_crossentropy'


def shapes():
    a, b = Input((4, 6, 2), name='first'), Input((5,), name='second')
    n = L.Normalization()
    n.adapt(np.random.default_rng(3).normal(2, 3, (50, 4, 6, 2)).astype('f4'))
    x = L.Rescaling(1 / 3, offset=-0.2)(n(a))
    x = L.PReLU(shared_axes=[1, 2])(x)
    x = L.Permute((2, 1, 3))(L.Reshape((6, 2, 4))(x))
    x = L.GroupNormalization(2)(x)
    x = L.Conv2D(3, 1)(L.LeakyReLU()(x))
    x = L.LayerNormalization()(x)
    x = L.Multiply()([x, L.Reshape((1, 1, 3))(L.Dense(3, activation='hard_sigmoid')(b))])
    x = L.ReLU(6.0)(x)
    x = L.GlobalMaxPooling2D()(x)
    r = L.RepeatVector(4)(b)
    r = L.Flatten()(L.ELU(0.7)(r))
    shared = L.Dense(3, activation='softplus')
    m = [shared(L.Dense(5)(r)), shared(b), x]
    y = L.Concatenate()([L.Average()(m), L.Maximum()(m[:2]), L.Minimum()(m[1:]), L.Subtract()(m[:2])])
    return Model([a, b], L.Dense(2)(y)), 'mse'


def nested():
    i = Input((6, 6, 2))
    inner = Model(i, L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(4, 3, activation='relu', name='conv')(i)),
                  name='body')
    tail = Sequential([L.Flatten(), L.Dense(5, activation='selu'), L.Dense(5, activation='mish')], name='tail')
    j = Input((6, 6, 2))
    a, b = inner(j), inner(L.Cropping2D(0)(L.Activation('sigmoid')(j)))
    return Model(j, L.Dense(3, activation='softmax')(tail(L.Add()([a, b])))), 'sparse_categorical_crossentropy'


def larger():
    x = i = Input((3, 4, 2))
    x = L.Conv2DTranspose(3, 3, strides=2, padding='same', activation='tanh')(x)
    x = L.UpSampling2D((2, 1))(x)
    x = L.Conv2DTranspose(2, 2, strides=3, use_bias=False)(x)
    x = L.UpSampling2D(2, interpolation='bilinear')(x)
    x = L.UpSampling1D(2)(L.Reshape((24, 240))(L.Cropping2D(((6, 6), (0, 0)))(x)))
    return Model(i, L.Dense(3)(L.GlobalAveragePooling1D()(x))), 'mse'


def resets():
    return Sequential([Input((6, 4)), L.Bidirectional(L.GRU(3, reset_after=False, return_sequences=True)),
                       L.GRU(4, reset_after=False, use_bias=False, return_sequences=True), L.GRU(5, reset_after=False),
                       L.Dense(2)]), 'mse'


MODELS = {f.__name__: f for f in (pixels, words, steps, attention, shapes, nested, larger, resets)}


def draw(model, seed):
    r = np.random.default_rng(seed)
    for w in model.weights:
        if 'mean' in w.path and 'normalization' in w.path and 'moving' not in w.path or 'seed' in w.path \
                or w.path.endswith('count') or w.path.endswith('/variance'):
            continue
        noise = r.normal(0, 1, w.shape).astype('f4')
        near_one = any(w.path.endswith(n) for n in ('gamma', 'variance'))
        w.assign(1 + 0.2 * np.abs(noise) if near_one else noise * (0.4 if noise.ndim > 1 else 0.2))


class DenseAdam(keras.optimizers.Adam):
    """Keras' Adam, by its formula for an embedding too. With TensorFlow, Keras squares the gradient of each occurrence
    of an id and adds up the squares, where the formula has the square of their sum: words' embedding is then off by
    8.6e-4 in the first step, which is 4e-8 from what the formula gives with the squares added up."""
    def update_step(self, gradient, variable, learning_rate):
        import tensorflow
        super().update_step(tensorflow.convert_to_tensor(gradient), variable, learning_rate)


def first(a):
    return np.ascontiguousarray(np.moveaxis(a, -1, 1) if a.ndim == 4 else a)


def make(folder, name, forms=('keras', 'h5', 'weights.h5'), after=True):
    model, loss = MODELS[name]()
    draw(model, len(name))
    r = np.random.default_rng(7)
    batch, xs = 3, []
    for t in model.inputs:
        shape = (batch,) + tuple(5 if s is None else s for s in t.shape[1:])
        xs.append(r.integers(0, 11, shape).astype('i4') if name == 'words' else r.normal(0, 1, shape).astype('f4'))
    one = xs if len(xs) > 1 else xs[0]
    y = np.asarray(keras.ops.convert_to_numpy(model(one, training=False)))
    outs = y.shape[-1]
    labels = r.integers(0, outs, batch).astype('i4')
    target = {'sparse_categorical_crossentropy': labels, 'categorical_crossentropy': np.eye(outs, dtype='f4')[labels],
              'binary_crossentropy': r.integers(0, 2, (batch, outs)).astype('f4'),
              'mse': r.normal(0, 1, (batch, outs)).astype('f4')}[loss]
    model.compile(keras.optimizers.Adam(), loss=loss)
    base = f'{folder}/{name}'
    for form in forms:
        (model.save_weights if form == 'weights.h5' else model.save)(f'{base}.{form}')
    if after:
        model.compile(DenseAdam(), loss=loss)
    expected = {'y': first(y), 'labels': labels} | ({} if 'crossentropy' in loss and 'binary' not in loss
                                                   else {'target': target})
    for t, x in zip(model.inputs, xs):
        expected[f'in/{t.name if len(xs) > 1 else "tokens" if name == "words" else "input"}'] = first(x)
    expected['loss'] = np.array([float(model.train_on_batch(one, target))], 'f4')
    expected['y_after'] = first(np.asarray(keras.ops.convert_to_numpy(model(one, training=False))))
    if after:
        model.save_weights(f'{base}.after.weights.h5')
    save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, f'{base}.safetensors')


def deflate(path):
    with zipfile.ZipFile(path) as z:
        entries = [(n, z.read(n)) for n in z.namelist()]
    with zipfile.ZipFile(path, 'w') as z:
        for name, content in entries:
            z.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def refuse(path):
    """A config with a layer, a field and an activation that nobody knows."""
    model = Sequential([Input((3,)), L.Dense(2, name='dense'), L.Dense(2, name='wobbly'), L.Dense(2, name='twisted')])
    model.save(path)
    with zipfile.ZipFile(path) as z:
        entries = {n: z.read(n) for n in z.namelist()}
    config = json.loads(entries['config.json'])
    layers = {l['config']['name']: l for l in config['config']['layers']}
    layers['dense']['config']['magic'] = 3
    layers['wobbly']['config']['activation'] = 'wobble'
    layers['twisted']['class_name'] = 'Twist'
    entries['config.json'] = json.dumps(config).encode()
    with zipfile.ZipFile(path, 'w') as z:
        for name, content in entries.items():
            z.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


if __name__ == '__main__':
    golden = len(sys.argv) == 1
    folder = os.path.dirname(os.path.abspath(__file__)) + '/keras' if golden else sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    if golden:
        refuse(f'{folder}/refused.keras')
    for name in sys.argv[2:] or MODELS:
        if golden:
            make(folder, name, forms=('keras',), after=False)
            deflate(f'{folder}/{name}.keras')
        else:
            make(folder, name)
