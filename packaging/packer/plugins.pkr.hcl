# In a file of its own: Packer before 1.7 has the builder in itself and doesn't know this block.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0"
    }
  }
}
