"""The published variants of WA, by name.

    recipe: pycil        in a config takes all settings of "pycil" below

The config's own settings go over them, key by key. `training` is that section of a config. Its
`base` has what differs for task 0 and for trainings from scratch. `method` has the choices that a
method takes if it says `distillation: recipe`. The method may still make some of them itself. A
method with a distillation of its own takes none of them. What is not here has the default of
wa/study/settings.py.
"""

CROP_FLIP_BRIGHTNESS = ["crop-4", "flip", "brightness-0.247"]  # ColorJitter(brightness=63 / 255)

PUBLISHED = {
    "none": {"training": {}, "method": {}},
    # Zhao et al., "Maintaining Discrimination and Fairness in Class Incremental Learning", CVPR
    # 2020 (arXiv 1911.07053): lambda = n / (n + m), T = 2, a loss without T^2, weights clipped at 0
    # after each step, logits W^T phi; ResNet-32, 250 epochs, 0.1 divided by 10 after 100, 150 and
    # 200, weight decay 2e-4. What we know from the authors' code alone (see `authors`): no biases,
    # crop and flip, order 1993. The batch size is that of BiC (Wu et al., CVPR 2019).
    "paper": {
        "training": {
            "backbone": "resnet32",
            "bias": False,
            "clip": True,
            "epochs": 250,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 2e-4,
            "schedule": "step",
            "milestones": [100, 150, 200],
            "augmentation": ["crop-4", "flip"],
        },
        "method": {
            "distillation": "dynamic",
            "mix": "convex",
            "temperature": 2,
            "temperature_squared": False,
        },
    },
    # The code of the paper's authors: github.com/bwbwzhao/Weight-Aligning, commit 50f369d of
    # 2023-02-14, iLearn.py, main.py, preresnet32.py and script.sh ("ours" for CIFAR-100). Gamma
    # scales the logits of the newest task, for predictions and for the teacher. That is the same as
    # scaling the rows, for the classifier has no biases and training goes on from unaligned
    # weights. Its distillation is the soft cross-entropy, with the same gradient. Not reproduced:
    # its pixels are normalised by CIFAR-100's usual constants, which differ from the statistics
    # here in the fourth digit. As published, it skips the training of task 0.
    "authors": {
        "training": {
            "backbone": "preact_resnet32",
            "bias": False,
            "clip": True,
            "redraw_classifier": "start",
            "epochs": 250,
            "batch_size": 32,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "divide_weight_decay": True,
            "schedule": "step",
            "milestones": [100, 150, 200],
            "augmentation": ["crop-4", "flip"],
        },
        "method": {
            "distillation": "dynamic",
            "mix": "convex",
            "temperature": 2,
            "temperature_squared": False,
            "start": "trained",
            "gamma_norm": 1,
            "gamma_limit": 1,
        },
    },
    # PyCIL (github.com/LAMDA-CL/PyCIL) since commit 716625e of 2023-02-16: models/wa.py (constants
    # at its top, _KD_loss, the loss (1 - kd_lambda) CE + kd_lambda KD), utils/data.py (iCIFAR100),
    # exps/wa.json (2000 exemplars in total, order 1993). Its distillation is the soft
    # cross-entropy, whose gradient is that of the divergence here. New rows of the classifier:
    # convs/linears.py, SimpleLinear.
    "pycil": {
        "training": {
            "backbone": "resnet32",
            "classifier_init": "kaiming",
            "epochs": 170,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 2e-4,
            "schedule": "step",
            "milestones": [60, 100, 140],
            "augmentation": CROP_FLIP_BRIGHTNESS,
            "base": {"epochs": 200, "weight_decay": 5e-4, "milestones": [60, 120, 170]},
        },
        "method": {
            "distillation": "dynamic",
            "mix": "convex",
            "temperature": 2,
            "temperature_squared": False,
        },
    },
    # G-U-N/a-PyTorch-Tutorial-to-Class-Incremental-Learning: template.py (lambda_kd 0.5, batch 128
    # a process), utils.py (SoftTarget: KL x T^2, T = 2), README ("170 epochs and CosineAnnealingLR
    # with T_max=170"; template.py has 140 as the default). Not reproduced: it herds features of
    # augmented images, in each process apart.
    "tutorial": {
        "training": {
            "backbone": "resnet32",
            "epochs": 170,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "augmentation": ["crop-4", "flip", "rand-m9-mstd0.5-inc1"],
        },
        "method": {
            "distillation": 0.5,
            "mix": "sum",
            "temperature": 2,
            "temperature_squared": True,
        },
    },
    # WA as the authors of DER (Yan et al., CVPR 2021) ran it: Rhyssiyan/DER-ClassIL.pytorch,
    # exps/weight_align/cifar100/b0/ 10steps/configs/1.yaml, inclearn/models/align.py. All tasks
    # alike. Its milestones, 100 and 120, count from the end of the warm-up
    # (inclearn/tools/scheduler.py). It aligns the logits of predictions and of the teacher only, so
    # a task starts from weights that were never aligned. Not reproduced: it has a class order of
    # its own.
    "der": {
        "training": {
            "backbone": "resnet18",
            "bias": False,
            "clip": True,
            "epochs": 170,
            "batch_size": 128,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "schedule": "step",
            "milestones": [110, 130],
            "warmup": 10,
            "redraw_classifier": "after-warmup",
            "augmentation": CROP_FLIP_BRIGHTNESS,
        },
        "method": {
            "distillation": "dynamic",
            "mix": "convex",
            "temperature": 2,
            "temperature_squared": False,
            "start": "trained",
        },
    },
}
