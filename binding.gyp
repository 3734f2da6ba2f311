{
  # npm builds turl through CMake (the "install" script of package.json). This bridge lets node-gyp users do the same.
  "targets": [
    {
      "target_name": "turl",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build-cmake/Release/turl.node"],
          "action": ["npx", "--no-install", "cmake-js", "compile", "--out", "build-cmake"]
        }
      ]
    }
  ]
}
