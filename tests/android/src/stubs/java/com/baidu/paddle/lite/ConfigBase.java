package com.baidu.paddle.lite;

public class ConfigBase {}
